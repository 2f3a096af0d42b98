"""The calibration beside other programs, on the same simulated exposures.

``python -m benchmarks.peers`` runs the classic chain (SExtractor, PSFEx, SExtractor, SCAMP) and ours from file to
catalogue and prints CPU seconds and accuracy side by side; ``python -m benchmarks.peers.stages`` compares stages one by
one with packages that do only that.
"""
