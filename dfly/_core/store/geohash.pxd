"""Geohashes of 52 bits, as Redis keeps positions in scores: latitude and longitude interleaved, 26 bits each.

Latitudes end at 85.05112878 degrees, where the Mercator projection is a square. Distances are haversine, on a sphere
with a radius of 6372797.560856 m. Method and constants: Redis' geohash.c and geohash_helper.c.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    GEO_AREAS = 9
    GEO_TEXT = 11                # of a standard geohash

cdef struct geo_point_t:
    double longitude             # degrees
    double latitude

cdef struct geo_cell_t:
    uint64_t bits
    uint8_t step                 # bits of each coordinate; 0: no cell

cdef struct geo_shape_t:
    # What is searched: a circle, or a box around its centre.
    bint is_box
    geo_point_t center
    double radius                # m
    double width
    double height

cdef bint geo_is_valid(geo_point_t point) noexcept nogil
cdef uint64_t geo_encode(geo_point_t point) noexcept nogil
cdef geo_point_t geo_decode(uint64_t bits) noexcept nogil
cdef double geo_distance(geo_point_t a, geo_point_t b) noexcept nogil          # m
cdef bint geo_contains(const geo_shape_t *shape, geo_point_t point, double *distance) noexcept nogil
# The standard geohash (latitudes up to 90 degrees) of a position, base 32.
cdef void geo_text(geo_point_t point, char *out) noexcept nogil
# Cells that cover the shape: its centre's first, then the neighbours that it reaches.
cdef void geo_cover(const geo_shape_t *shape, geo_cell_t *out) noexcept nogil
# Scores of positions in the cell: from *low on, below *high.
cdef void geo_scores(geo_cell_t cell, double *low, double *high) noexcept nogil
