"""Prefect server, worker and MLflow server of one checkout: started, watched, stopped, saved."""
