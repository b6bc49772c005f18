"""The pipeline: the only code that knows DVC, Prefect, MLflow and FiftyOne."""
