"""Geohashes: see geohash.pxd."""

from libc.math cimport asin, cos, fabs, sin, sqrt
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef enum:
    STEP_MAX = 26

cdef double LATITUDE_MAX = 85.05112878
cdef double LONGITUDE_MAX = 180
cdef double EARTH_RADIUS = 6372797.560856
cdef double MERCATOR_MAX = 20037726.37
cdef double RADIANS = 3.14159265358979323846 / 180
cdef uint64_t LONGITUDE_BITS = 0xAAAAAAAAAAAAAAAAULL
cdef uint64_t LATITUDE_BITS = 0x5555555555555555ULL
cdef const char *ALPHABET = "0123456789bcdefghjkmnpqrstuvwxyz"

cdef struct area_t:
    geo_point_t low
    geo_point_t high


# ---- Bits --------------------------------------------------------------------------------------

cdef uint64_t spread(uint64_t x) noexcept nogil:
    """The 32 low bits, each with a zero before it."""
    x &= 0xFFFFFFFFULL
    x = (x | (x << 16)) & 0x0000FFFF0000FFFFULL
    x = (x | (x << 8)) & 0x00FF00FF00FF00FFULL
    x = (x | (x << 4)) & 0x0F0F0F0F0F0F0F0FULL
    x = (x | (x << 2)) & 0x3333333333333333ULL
    return (x | (x << 1)) & 0x5555555555555555ULL


cdef uint64_t gather(uint64_t x) noexcept nogil:
    """Every second bit, from the lowest on."""
    x &= 0x5555555555555555ULL
    x = (x | (x >> 1)) & 0x3333333333333333ULL
    x = (x | (x >> 2)) & 0x0F0F0F0F0F0F0F0FULL
    x = (x | (x >> 4)) & 0x00FF00FF00FF00FFULL
    x = (x | (x >> 8)) & 0x0000FFFF0000FFFFULL
    return (x | (x >> 16)) & 0xFFFFFFFFULL


cdef uint64_t encode(geo_point_t point, double latitude_max, uint8_t step) noexcept nogil:
    cdef double latitude = (point.latitude + latitude_max) / (2 * latitude_max)
    cdef double longitude = (point.longitude + LONGITUDE_MAX) / (2 * LONGITUDE_MAX)
    latitude *= <double>(<uint64_t>1 << step)
    longitude *= <double>(<uint64_t>1 << step)
    return spread(<uint32_t>latitude) | (spread(<uint32_t>longitude) << 1)


cdef area_t area_of(geo_cell_t cell) noexcept nogil:
    cdef double cells = <double>(<uint64_t>1 << cell.step)
    cdef double row = <double>gather(cell.bits)
    cdef double column = <double>gather(cell.bits >> 1)
    cdef area_t area
    area.low.latitude = -LATITUDE_MAX + (row / cells) * (2 * LATITUDE_MAX)
    area.high.latitude = -LATITUDE_MAX + ((row + 1) / cells) * (2 * LATITUDE_MAX)
    area.low.longitude = -LONGITUDE_MAX + (column / cells) * (2 * LONGITUDE_MAX)
    area.high.longitude = -LONGITUDE_MAX + ((column + 1) / cells) * (2 * LONGITUDE_MAX)
    return area


cdef bint geo_is_valid(geo_point_t point) noexcept nogil:
    return (-LONGITUDE_MAX <= point.longitude <= LONGITUDE_MAX
            and -LATITUDE_MAX <= point.latitude <= LATITUDE_MAX)


cdef uint64_t geo_encode(geo_point_t point) noexcept nogil:
    return encode(point, LATITUDE_MAX, STEP_MAX)


cdef geo_point_t geo_decode(uint64_t bits) noexcept nogil:
    """The middle of its cell."""
    cdef geo_point_t point
    cdef geo_cell_t cell
    cdef area_t area
    cell.bits = bits
    cell.step = STEP_MAX
    area = area_of(cell)
    point.longitude = min(max((area.low.longitude + area.high.longitude) / 2, -LONGITUDE_MAX), LONGITUDE_MAX)
    point.latitude = min(max((area.low.latitude + area.high.latitude) / 2, -LATITUDE_MAX), LATITUDE_MAX)
    return point


cdef void geo_text(geo_point_t point, char *out) noexcept nogil:
    cdef uint64_t bits = encode(point, 90, STEP_MAX)
    cdef int i
    for i in range(GEO_TEXT - 1):
        out[i] = ALPHABET[(bits >> (52 - 5 * (i + 1))) & 31]
    # There are 52 bits, two more than ten letters hold: the last letter is zero by custom.
    out[GEO_TEXT - 1] = ALPHABET[0]


# ---- Distances ---------------------------------------------------------------------------------

cdef double latitude_distance(double a, double b) noexcept nogil:
    return EARTH_RADIUS * fabs(b * RADIANS - a * RADIANS)


cdef double geo_distance(geo_point_t a, geo_point_t b) noexcept nogil:
    cdef double v = sin((b.longitude * RADIANS - a.longitude * RADIANS) / 2)
    cdef double u
    if v == 0:
        return latitude_distance(a.latitude, b.latitude)
    u = sin((b.latitude * RADIANS - a.latitude * RADIANS) / 2)
    return 2 * EARTH_RADIUS * asin(sqrt(u * u + cos(a.latitude * RADIANS) * cos(b.latitude * RADIANS) * v * v))


cdef bint geo_contains(const geo_shape_t *shape, geo_point_t point, double *distance) noexcept nogil:
    cdef geo_point_t same_latitude
    if not shape.is_box:
        distance[0] = geo_distance(shape.center, point)
        return distance[0] <= shape.radius
    if latitude_distance(point.latitude, shape.center.latitude) > shape.height / 2:
        return False
    same_latitude.longitude = shape.center.longitude
    same_latitude.latitude = point.latitude
    if geo_distance(point, same_latitude) > shape.width / 2:
        return False
    distance[0] = geo_distance(shape.center, point)
    return True


# ---- Cells -------------------------------------------------------------------------------------

cdef geo_cell_t moved(geo_cell_t cell, int columns, int rows) noexcept nogil:
    """The cell so many columns to the east and rows to the north (-1, 0 or 1), round the world."""
    cdef uint64_t column = cell.bits & LONGITUDE_BITS
    cdef uint64_t row = cell.bits & LATITUDE_BITS
    cdef uint8_t unused = 64 - 2 * cell.step
    cdef uint64_t rows_all = LATITUDE_BITS >> unused
    cdef uint64_t columns_all = LONGITUDE_BITS >> unused
    if columns > 0:
        column += rows_all + 1
    elif columns < 0:
        column = (column | rows_all) - (rows_all + 1)
    if rows > 0:
        row += columns_all + 1
    elif rows < 0:
        row = (row | columns_all) - (columns_all + 1)
    cell.bits = (column & columns_all if columns != 0 else column) | (row & rows_all if rows != 0 else row)
    return cell


cdef uint8_t estimate_step(double meters, double latitude) noexcept nogil:
    """So that a cell is about as large as the shape; cells are narrower near the poles."""
    cdef int step = 1
    if meters == 0:
        return STEP_MAX
    while meters < MERCATOR_MAX:
        meters *= 2
        step += 1
    step -= 2
    if latitude > 66 or latitude < -66:
        step -= 1
        if latitude > 80 or latitude < -80:
            step -= 1
    return <uint8_t>min(max(step, 1), <int>STEP_MAX)


cdef area_t bounds_of(const geo_shape_t *shape) noexcept nogil:
    cdef double height = shape.height / 2 if shape.is_box else shape.radius
    cdef double width = shape.width / 2 if shape.is_box else shape.radius
    cdef double latitude = shape.center.latitude
    cdef double rows = height / EARTH_RADIUS / RADIANS
    cdef double top = width / EARTH_RADIUS / cos((latitude + rows) * RADIANS) / RADIANS
    cdef double bottom = width / EARTH_RADIUS / cos((latitude - rows) * RADIANS) / RADIANS
    cdef double columns = bottom if latitude < 0 else top
    cdef area_t bounds
    bounds.low.longitude = shape.center.longitude - columns
    bounds.high.longitude = shape.center.longitude + columns
    bounds.low.latitude = latitude - rows
    bounds.high.latitude = latitude + rows
    return bounds


cdef bint is_too_small(geo_cell_t cell, const area_t *bounds) noexcept nogil:
    """Near an edge of its cell a shape may reach beyond the neighbours."""
    return (area_of(moved(cell, 0, 1)).high.latitude < bounds.high.latitude
            or area_of(moved(cell, 0, -1)).low.latitude > bounds.low.latitude
            or area_of(moved(cell, 1, 0)).high.longitude < bounds.high.longitude
            or area_of(moved(cell, -1, 0)).low.longitude > bounds.low.longitude)


cdef geo_cell_t cell_at(geo_point_t point, uint8_t step) noexcept nogil:
    cdef geo_cell_t cell
    cell.step = step
    cell.bits = encode(point, LATITUDE_MAX, step)
    return cell


cdef void geo_cover(const geo_shape_t *shape, geo_cell_t *out) noexcept nogil:
    cdef double reach = shape.radius
    cdef area_t bounds = bounds_of(shape)
    cdef int[9] columns = [0, 0, 0, 1, -1, 1, -1, 1, -1]
    cdef int[9] rows = [0, 1, -1, 0, 0, 1, 1, -1, -1]
    cdef geo_cell_t cell
    cdef area_t area
    cdef uint8_t step
    cdef int i
    if shape.is_box:
        reach = sqrt((shape.width / 2) * (shape.width / 2) + (shape.height / 2) * (shape.height / 2))
    step = estimate_step(reach, shape.center.latitude)
    cell = cell_at(shape.center, step)
    if step > 1 and is_too_small(cell, &bounds):
        step -= 1
        cell = cell_at(shape.center, step)
    area = area_of(cell)
    for i in range(GEO_AREAS):
        out[i] = moved(cell, columns[i], rows[i])
        if step < 2:
            continue
        if ((rows[i] < 0 and area.low.latitude < bounds.low.latitude)
                or (rows[i] > 0 and area.high.latitude > bounds.high.latitude)
                or (columns[i] < 0 and area.low.longitude < bounds.low.longitude)
                or (columns[i] > 0 and area.high.longitude > bounds.high.longitude)):
            out[i].bits = 0
            out[i].step = 0


cdef void geo_scores(geo_cell_t cell, double *low, double *high) noexcept nogil:
    cdef uint8_t shift = 52 - 2 * cell.step
    low[0] = <double>(cell.bits << shift)
    high[0] = <double>((cell.bits + 1) << shift)
