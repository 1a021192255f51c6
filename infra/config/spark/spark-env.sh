# What spark-submit needs of the environment; `clickstream up` renders it to $CLICKSTREAM_HOME/conf/spark.
JAVA_HOME='{{ java_home }}'
HADOOP_CONF_DIR='{{ hadoop_conf_dir }}'
YARN_CONF_DIR='{{ hadoop_conf_dir }}'
{% if one_machine -%}
SPARK_LOCAL_IP='127.0.0.1'
{% endif -%}
# The driver that runs here; then that of executors.
PYSPARK_DRIVER_PYTHON='{{ python }}'
PYSPARK_PYTHON='{{ s.spark.python if s.spark.master == "yarn" else python }}'
