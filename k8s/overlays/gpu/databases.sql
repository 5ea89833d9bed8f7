-- beside the one that the image makes, which is MLflow's: that of jobs
CREATE DATABASE latentworks;
