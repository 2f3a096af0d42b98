"""A folder whose new exposures are submitted."""
