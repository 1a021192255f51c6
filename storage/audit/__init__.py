"""Proof that each offset of a topic is on HDFS exactly once."""
