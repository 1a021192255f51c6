"""Production's recommenders measured on anybody's ratings or sessions, beside baselines."""
