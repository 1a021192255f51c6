"""What spark-submit needs: the job's file, our code, archives, and the class archive."""
