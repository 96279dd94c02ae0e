"""Makers of sample files, one module a modality.

Each of image, video, lidar, audio and table has `COUNT`, how many files it makes, and `make(index, folder)`,
which writes file `index` below `folder`; the same `index` gives the same bytes.
"""
