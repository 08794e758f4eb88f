"""What is measured of a model: its accuracy under noise, mutual information, sensitivities."""
