"""Keypoint AP, error taxonomy and prediction over a data split."""
