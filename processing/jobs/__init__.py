"""One file a job, each run by spark-submit."""
