"""What is made of a finished job's products on request: PSF stamps and grids, photometry, diagnostics, comparisons."""
