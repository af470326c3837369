"""Glob matching in O(pattern * text): only the last star needs to be tried again.

A pattern such as a*a*a*a*b against a long run of a's must not take exponential time, since clients choose
both. After a star has matched a prefix, an earlier star never has to take more (the usual greedy
argument), so one point to go back to is enough. Semantics are those of Redis' KEYS documentation.
"""

from libc.stdint cimport uint8_t

from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


cdef inline uint8_t folded(uint8_t c, bint nocase) noexcept nogil:
    if nocase and c >= c'A' and c <= c'Z':
        return c + 32
    return c


cdef bint match_class(const char *pattern, size_t size, size_t *at, uint8_t c, bint nocase) noexcept nogil:
    """Matches c against the class that opens at pattern[*at] == '['; moves *at behind it."""
    cdef size_t i = at[0] + 1
    cdef bint negated = i < size and pattern[i] == c'^'
    cdef bint found = False
    cdef uint8_t low
    cdef uint8_t high
    cdef uint8_t swap
    if negated:
        i += 1
    while True:
        if i >= size:
            # A class without its bracket ends with the pattern.
            break
        if pattern[i] == c'\\' and i + 1 < size:
            i += 1
            found = found or <uint8_t>pattern[i] == c
        elif pattern[i] == c']':
            i += 1
            break
        elif i + 2 < size and pattern[i + 1] == c'-':
            low = <uint8_t>pattern[i]
            high = <uint8_t>pattern[i + 2]
            if low > high:
                swap = low
                low = high
                high = swap
            low = folded(low, nocase)
            high = folded(high, nocase)
            found = found or (folded(c, nocase) >= low and folded(c, nocase) <= high)
            i += 2
        else:
            found = found or folded(<uint8_t>pattern[i], nocase) == folded(c, nocase)
        i += 1
    at[0] = i
    return found != negated


cdef bint glob_match(const char *pattern, size_t pattern_size, const char *text, size_t text_size,
                     bint nocase) noexcept nogil:
    cdef size_t p = 0
    cdef size_t t = 0
    cdef size_t next_p
    cdef size_t star_p = 0
    cdef size_t star_t = 0
    cdef bint has_star = False
    cdef bint matched
    if text_size == 0:
        # Redis never looks at the stars of a pattern when the text is empty ("*" alone is its caller's).
        return pattern_size == 0
    while True:
        if p < pattern_size and pattern[p] == c'*':
            has_star = True
            star_p = p + 1
            star_t = t
            p += 1
            continue
        if t >= text_size:
            break
        matched = False
        next_p = p
        if p < pattern_size:
            if pattern[p] == c'?':
                matched = True
                next_p = p + 1
            elif pattern[p] == c'[':
                matched = match_class(pattern, pattern_size, &next_p, <uint8_t>text[t], nocase)
            else:
                if pattern[p] == c'\\' and p + 1 < pattern_size:
                    next_p = p + 1
                matched = folded(<uint8_t>pattern[next_p], nocase) == folded(<uint8_t>text[t], nocase)
                next_p += 1
        if matched:
            p = next_p
            t += 1
        elif has_star:
            # The last star takes one more character.
            star_t += 1
            t = star_t
            p = star_p
        else:
            return False
    return p >= pattern_size
