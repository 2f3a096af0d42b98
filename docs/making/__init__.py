"""What the documentation takes from the code: pages of reference and figures."""
