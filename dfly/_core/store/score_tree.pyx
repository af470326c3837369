"""The B+ tree with ranks: see score_tree.pxd.

A change goes down once and notes its way (path_t); what changed in a node (its least member, its count) is
then written into the entries above it, from the bottom up. A full node splits in halves, at the right end of the
tree so that the left part stays full. A node that falls below a third joins a neighbour or shares with it.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

from dfly._core.store.member_arena cimport arena_t, member_at, member_score, member_text
from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_good_size
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, likely, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    NODE_LOW = 20                    # with fewer entries a node looks for a neighbour
    NODE_JOINED_MAX = 45             # two become one if it has no more entries than this

cdef struct path_t:
    node_t *nodes[10]                # by height; nodes[0] is the leaf
    uint32_t slots[10]               # the entry of the way in it


cdef node_t *new_leaf(tree_t *self) noexcept nogil:
    cdef leaf_t *leaf = <leaf_t *>mem_alloc(sizeof(leaf_t))
    leaf.node.count = 0
    leaf.next = NULL
    leaf.previous = NULL
    self.leaf_count += 1
    return &leaf.node


cdef node_t *new_inner(tree_t *self) noexcept nogil:
    cdef inner_t *inner = <inner_t *>mem_alloc(sizeof(inner_t))
    inner.node.count = 0
    self.inner_count += 1
    return &inner.node


cdef void free_node(tree_t *self, node_t *node, uint32_t height) noexcept nogil:
    cdef leaf_t *leaf = <leaf_t *>node
    if height == 0:
        if leaf.next != NULL:
            leaf.next.previous = leaf.previous
        if leaf.previous != NULL:
            leaf.previous.next = leaf.next
        self.leaf_count -= 1
    else:
        self.inner_count -= 1
    mem_free(node)


cdef void tree_init(tree_t *self) noexcept nogil:
    self.height = 0
    self.count = 0
    self.leaf_count = 0
    self.inner_count = 0
    self.root = new_leaf(self)


# ---- Finding -----------------------------------------------------------------------------------

cdef inline int compare_texts(slice_t a, slice_t b) noexcept nogil:
    cdef int result = memcmp(a.data, b.data, a.size if a.size < b.size else b.size)
    if result != 0:
        return result
    return -1 if a.size < b.size else a.size > b.size


cdef inline bint is_below(const arena_t *arena, uint32_t handle, const bound_t *bound) noexcept nogil:
    cdef char *member = member_at(arena, handle)
    cdef double score
    cdef int compared
    if bound.kind != BOUND_TEXT:
        score = member_score(member)[0]
        if score != bound.score:
            return score < bound.score
        if bound.kind == BOUND_SCORE:
            return bound.inclusive
    compared = compare_texts(member_text(member), bound.text)
    return compared < 0 or (compared == 0 and bound.inclusive)


cdef inline uint32_t count_below(const node_t *node, const arena_t *arena, const bound_t *bound) noexcept nogil:
    cdef uint32_t first = 0
    cdef uint32_t end = node.count
    cdef uint32_t middle
    cdef uint32_t i
    if likely(bound.kind != BOUND_TEXT):
        end = 0
        for i in range(node.count):
            first += node.hints[i] < bound.hint
            end += node.hints[i] <= bound.hint
    while first < end:
        middle = (first + end) >> 1
        if is_below(arena, node.handles[middle], bound):
            first = middle + 1
        else:
            end = middle
    return first


cdef inline uint64_t descend(const tree_t *self, const arena_t *arena, const bound_t *bound,
                             path_t *path) noexcept nogil:
    """The number of members below the bound. path.slots[0] is the place in the leaf, which may be its end."""
    cdef node_t *node = self.root
    cdef uint32_t height = self.height
    cdef uint64_t rank = 0
    cdef uint32_t slot
    cdef uint32_t i
    while height > 0:
        slot = count_below(node, arena, bound)
        if slot > 0:
            slot -= 1
        for i in range(slot):
            rank += (<inner_t *>node).counts[i]
        path.nodes[height] = node
        path.slots[height] = slot
        node = (<inner_t *>node).children[slot]
        height -= 1
    slot = count_below(node, arena, bound)
    path.nodes[0] = node
    path.slots[0] = slot
    return rank + slot


cdef uint64_t tree_rank(const tree_t *self, const arena_t *arena, const bound_t *bound) noexcept nogil:
    cdef path_t path
    return descend(self, arena, bound, &path)


cdef inline void descend_to_rank(const tree_t *self, uint64_t rank, path_t *path) noexcept nogil:
    cdef node_t *node = self.root
    cdef uint32_t height = self.height
    cdef uint32_t slot
    while height > 0:
        slot = 0
        while rank >= (<inner_t *>node).counts[slot]:
            rank -= (<inner_t *>node).counts[slot]
            slot += 1
        path.nodes[height] = node
        path.slots[height] = slot
        node = (<inner_t *>node).children[slot]
        height -= 1
    path.nodes[0] = node
    path.slots[0] = <uint32_t>rank


cdef leaf_t *tree_seek(const tree_t *self, uint64_t rank, uint32_t *place) noexcept nogil:
    cdef path_t path
    descend_to_rank(self, rank, &path)
    place[0] = path.slots[0]
    return <leaf_t *>path.nodes[0]


cdef inline void descend_to_member(const tree_t *self, const arena_t *arena, uint32_t handle,
                                   path_t *path) noexcept nogil:
    cdef char *member = member_at(arena, handle)
    cdef bound_t bound
    bound_set_member(&bound, member_score(member)[0], member_text(member), True)
    descend(self, arena, &bound, path)
    # What is equal is below this bound, so the member is the last one below it.
    path.slots[0] -= 1
    DFLY_CHECK(path.nodes[0].handles[path.slots[0]] == handle, "a member is where its score says")


# ---- Entries of nodes --------------------------------------------------------------------------

cdef void move_entries(node_t *from_node, uint32_t first, uint32_t count, node_t *to_node, uint32_t place,
                       uint32_t height) noexcept nogil:
    """Copies entries; there is room, counts of the nodes are the caller's."""
    cdef inner_t *source = <inner_t *>from_node
    cdef inner_t *target = <inner_t *>to_node
    memmove(to_node.hints + place, from_node.hints + first, count * sizeof(int32_t))
    memmove(to_node.handles + place, from_node.handles + first, count * sizeof(uint32_t))
    if height > 0:
        memmove(target.counts + place, source.counts + first, count * sizeof(uint32_t))
        memmove(target.children + place, source.children + first, count * sizeof(node_t *))


cdef inline void open_gap(node_t *node, uint32_t place, uint32_t height) noexcept nogil:
    move_entries(node, place, node.count - place, node, place + 1, height)
    node.count += 1


cdef inline void remove_entries(node_t *node, uint32_t place, uint32_t count, uint32_t height) noexcept nogil:
    move_entries(node, place + count, node.count - place - count, node, place, height)
    node.count -= count


cdef uint32_t members_of(const node_t *node, uint32_t height) noexcept nogil:
    cdef uint32_t total = 0
    cdef uint32_t i
    if height == 0:
        return node.count
    for i in range(node.count):
        total += (<const inner_t *>node).counts[i]
    return total


cdef inline void describe_child(node_t *parent, uint32_t slot, const node_t *child) noexcept nogil:
    """Writes its least member into the parent's entry."""
    parent.hints[slot] = child.hints[0]
    parent.handles[slot] = child.handles[0]


cdef inline void set_child(node_t *parent, uint32_t slot, node_t *child, uint32_t child_height) noexcept nogil:
    describe_child(parent, slot, child)
    (<inner_t *>parent).counts[slot] = members_of(child, child_height)
    (<inner_t *>parent).children[slot] = child


# ---- Adding ------------------------------------------------------------------------------------

cdef node_t *split_node(tree_t *self, node_t *node, uint32_t place, bint at_right_end, bint at_left_end,
                        uint32_t height) noexcept nogil:
    """Makes room in a full node for an entry at `place`: moves the later entries to a new one."""
    cdef node_t *right = new_leaf(self) if height == 0 else new_inner(self)
    cdef uint32_t kept = node.count // 2
    cdef leaf_t *leaf
    if at_right_end and place == node.count:
        kept = node.count
    elif at_left_end and place == 0:
        kept = node.count // 8
    right.count = node.count - kept
    move_entries(node, kept, right.count, right, 0, height)
    node.count = kept
    if height == 0:
        leaf = <leaf_t *>right
        leaf.previous = <leaf_t *>node
        leaf.next = leaf.previous.next
        leaf.previous.next = leaf
        if leaf.next != NULL:
            leaf.next.previous = leaf
    return right


cdef void grow_root(tree_t *self, node_t *left, node_t *right) noexcept nogil:
    cdef node_t *root = new_inner(self)
    DFLY_CHECK(self.height + 1 < HEIGHT_MAX, "a tree of that height has more members than fit in memory")
    root.count = 2
    set_child(root, 0, left, self.height)
    set_child(root, 1, right, self.height)
    self.root = root
    self.height += 1


cdef void add_child(tree_t *self, path_t *path, uint32_t height, node_t *child) noexcept nogil:
    """A node that was split off the one on the path at height - 1: its entry goes behind that one's."""
    cdef node_t *node
    cdef node_t *right
    cdef uint32_t place
    if height > self.height:
        grow_root(self, path.nodes[height - 1], child)
        return
    node = path.nodes[height]
    place = path.slots[height] + 1
    set_child(node, path.slots[height], path.nodes[height - 1], height - 1)
    if likely(node.count < NODE_SLOTS):
        open_gap(node, place, height)
        set_child(node, place, child, height - 1)
        refresh_above(self, path, height)
        return
    right = split_node(self, node, place, True, False, height)
    if place > node.count or (place == node.count and right.count == 0):
        place -= node.count
        open_gap(right, place, height)
        set_child(right, place, child, height - 1)
    else:
        open_gap(node, place, height)
        set_child(node, place, child, height - 1)
    add_child(self, path, height + 1, right)


cdef void refresh_above(tree_t *self, path_t *path, uint32_t height) noexcept nogil:
    """Writes least members and counts of the nodes on the path into the entries above them."""
    cdef uint32_t i
    for i in range(height + 1, self.height + 1):
        describe_child(path.nodes[i], path.slots[i], path.nodes[i - 1])
        (<inner_t *>path.nodes[i]).counts[path.slots[i]] = members_of(path.nodes[i - 1], i - 1)


cdef inline void add_above(tree_t *self, path_t *path, int32_t change, bint new_least) noexcept nogil:
    cdef uint32_t i
    for i in range(1, self.height + 1):
        (<inner_t *>path.nodes[i]).counts[path.slots[i]] += <uint32_t>change
        if unlikely(new_least):
            describe_child(path.nodes[i], path.slots[i], path.nodes[i - 1])


cdef void tree_add(tree_t *self, const arena_t *arena, uint32_t handle) noexcept nogil:
    cdef char *member = member_at(arena, handle)
    cdef path_t path
    cdef bound_t bound
    cdef node_t *node
    cdef node_t *right
    cdef leaf_t *leaf
    cdef uint32_t place
    bound_set_member(&bound, member_score(member)[0], member_text(member), False)
    descend(self, arena, &bound, &path)
    self.count += 1
    node = path.nodes[0]
    place = path.slots[0]
    if likely(node.count < NODE_SLOTS):
        open_gap(node, place, 0)
        node.hints[place] = bound.hint
        node.handles[place] = handle
        add_above(self, &path, 1, place == 0)
        return
    leaf = <leaf_t *>node
    right = split_node(self, node, place, leaf.next == NULL, leaf.previous == NULL, 0)
    if place > node.count or (place == node.count and right.count == 0):
        place -= node.count
        node = right
    open_gap(node, place, 0)
    node.hints[place] = bound.hint
    node.handles[place] = handle
    add_child(self, &path, 1, right)


# ---- Removing ----------------------------------------------------------------------------------

cdef void join_or_share(tree_t *self, node_t *parent, uint32_t slot, uint32_t height) noexcept nogil:
    """The children at slot and slot + 1 become one, or get half of the entries each."""
    cdef node_t *left = (<inner_t *>parent).children[slot]
    cdef node_t *right = (<inner_t *>parent).children[slot + 1]
    cdef uint32_t total = left.count + right.count
    cdef uint32_t half = total // 2
    cdef uint32_t moved
    if total <= NODE_JOINED_MAX or left.count == 0 or right.count == 0:
        move_entries(right, 0, right.count, left, left.count, height)
        left.count = total
        set_child(parent, slot, left, height)
        remove_entries(parent, slot + 1, 1, height + 1)
        free_node(self, right, height)
        return
    if left.count < half:
        moved = half - left.count
        move_entries(right, 0, moved, left, left.count, height)
        remove_entries(right, 0, moved, height)
    else:
        moved = left.count - half
        move_entries(right, 0, right.count, right, moved, height)
        move_entries(left, half, moved, right, 0, height)
        right.count += moved
    left.count = half
    set_child(parent, slot, left, height)
    set_child(parent, slot + 1, right, height)


cdef void remove_run(tree_t *self, path_t *path, uint32_t count) noexcept nogil:
    """Removes entries from the leaf at the end of the path, from its place on."""
    cdef node_t *node = path.nodes[0]
    cdef node_t *parent
    cdef uint32_t height
    cdef uint32_t slot
    remove_entries(node, path.slots[0], count, 0)
    self.count -= count
    if likely(node.count >= NODE_LOW):
        add_above(self, path, -<int32_t>count, path.slots[0] == 0)
        return
    for height in range(self.height):
        node = path.nodes[height]
        parent = path.nodes[height + 1]
        slot = path.slots[height + 1]
        if node.count < NODE_LOW and parent.count > 1:
            (<inner_t *>parent).counts[slot] = members_of(node, height)
            join_or_share(self, parent, slot - 1 if slot > 0 else 0, height)
        elif node.count == 0:
            # An only child without entries: so its parent has none either.
            remove_entries(parent, slot, 1, height + 1)
            free_node(self, node, height)
        else:
            set_child(parent, slot, node, height)
    while self.height > 0 and self.root.count <= 1:
        shrink_root(self)


cdef void shrink_root(tree_t *self) noexcept nogil:
    cdef node_t *root = self.root
    if root.count == 0:
        self.root = new_leaf(self)
        free_node(self, root, self.height)
        self.height = 0
        return
    self.root = (<inner_t *>root).children[0]
    free_node(self, root, self.height)
    self.height -= 1


cdef void tree_remove(tree_t *self, const arena_t *arena, uint32_t handle) noexcept nogil:
    cdef path_t path
    descend_to_member(self, arena, handle, &path)
    remove_run(self, &path, 1)


cdef uint32_t tree_take(tree_t *self, uint64_t rank, uint64_t count, uint32_t *out) noexcept nogil:
    cdef path_t path
    cdef uint32_t taken
    descend_to_rank(self, rank, &path)
    taken = path.nodes[0].count - path.slots[0]
    if taken > count:
        taken = <uint32_t>count
    memcpy(out, path.nodes[0].handles + path.slots[0], taken * sizeof(uint32_t))
    remove_run(self, &path, taken)
    return taken


cdef bint tree_holds(const tree_t *self, const arena_t *arena, uint32_t handle) noexcept nogil:
    cdef char *member = member_at(arena, handle)
    cdef path_t path
    cdef bound_t bound
    bound_set_member(&bound, member_score(member)[0], member_text(member), True)
    descend(self, arena, &bound, &path)
    return path.slots[0] > 0 and path.nodes[0].handles[path.slots[0] - 1] == handle


# ---- Cutting -----------------------------------------------------------------------------------
# Nodes along the two edges of what is cut may be left with few entries, but never with none.

cdef struct cut_t:
    leaf_t *first                    # of the chain
    leaf_t *last
    bint is_part                     # the last one is new, and not linked to what comes
    uint32_t leaves


cdef void chain_leaf(cut_t *cut, leaf_t *leaf, bint is_part) noexcept nogil:
    """Leaves of the tree follow each other already: they are not even looked at."""
    if cut.first == NULL:
        cut.first = leaf
    elif is_part or cut.is_part:
        cut.last.next = leaf
    cut.last = leaf
    cut.is_part = is_part
    cut.leaves += 1


cdef void cut_whole(tree_t *self, node_t *node, uint32_t height, cut_t *cut) noexcept nogil:
    """Its leaves go into the chain, the nodes above them are freed: there is one for dozens of leaves."""
    cdef uint32_t i
    if height == 0:
        self.leaf_count -= 1
        chain_leaf(cut, <leaf_t *>node, False)
        return
    for i in range(node.count):
        cut_whole(self, (<inner_t *>node).children[i], height - 1, cut)
    self.inner_count -= 1
    mem_free(node)


cdef void cut_leaf(node_t *node, uint32_t first, uint32_t count, cut_t *cut) noexcept nogil:
    cdef leaf_t *part = <leaf_t *>mem_alloc(sizeof(leaf_t))
    part.node.count = count
    memcpy(part.node.handles, node.handles + first, count * sizeof(uint32_t))
    chain_leaf(cut, part, True)
    remove_entries(node, first, count, 0)


cdef void cut_below(tree_t *self, node_t *node, uint32_t height, uint64_t first, uint64_t count,
                    cut_t *cut) noexcept nogil:
    """Not all of its members. Calls itself for the two children at the edges: at most HEIGHT_MAX deep."""
    cdef inner_t *inner = <inner_t *>node
    cdef uint32_t slot = 0
    cdef uint32_t whole_from
    cdef uint64_t here
    if height == 0:
        cut_leaf(node, <uint32_t>first, <uint32_t>count, cut)
        return
    while first >= inner.counts[slot]:
        first -= inner.counts[slot]
        slot += 1
    here = min(count, inner.counts[slot] - first)
    if here < inner.counts[slot]:
        cut_below(self, inner.children[slot], height - 1, first, here, cut)
        set_child(node, slot, inner.children[slot], height - 1)
        slot += 1
        count -= here
    whole_from = slot
    while count > 0 and count >= inner.counts[slot]:
        count -= inner.counts[slot]
        cut_whole(self, inner.children[slot], height - 1, cut)
        slot += 1
    if count > 0:
        cut_below(self, inner.children[slot], height - 1, 0, count, cut)
        set_child(node, slot, inner.children[slot], height - 1)
    remove_entries(node, whole_from, slot - whole_from, height)


cdef uint32_t tree_cut(tree_t *self, uint64_t rank, uint64_t count, leaf_t **cut_leaves) noexcept nogil:
    cdef leaf_t *before = NULL
    cdef leaf_t *behind = NULL
    cdef uint32_t place
    cdef cut_t cut
    DFLY_CHECK(0 < count < self.count and rank + count <= self.count, "some members are cut out, and some stay")
    cut.first = NULL
    cut.last = NULL
    cut.is_part = False
    cut.leaves = 0
    if rank > 0:
        before = tree_seek(self, rank - 1, &place)
    if rank + count < self.count:
        behind = tree_seek(self, rank + count, &place)
    cut_below(self, self.root, self.height, rank, count, &cut)
    self.count -= <uint32_t>count
    if before != behind:
        if before != NULL:
            before.next = behind
        if behind != NULL:
            behind.previous = before
    while self.height > 0 and self.root.count <= 1:
        shrink_root(self)
    cut.last.next = cut_leaves[0]
    cut_leaves[0] = cut.first
    return cut.leaves


# ---- Changing ----------------------------------------------------------------------------------

cdef inline bint keeps_place(const node_t *leaf, uint32_t place, const arena_t *arena,
                             const bound_t *bound) noexcept nogil:
    """Would it stay between the same neighbours? False also where they are in other leaves."""
    if place == 0 or place + 1 >= leaf.count:
        return False
    return is_below(arena, leaf.handles[place - 1], bound) and not is_below(arena, leaf.handles[place + 1], bound)


cdef void tree_change_score(tree_t *self, const arena_t *arena, uint32_t handle, double score) noexcept nogil:
    cdef char *member = member_at(arena, handle)
    cdef path_t path
    cdef bound_t bound
    descend_to_member(self, arena, handle, &path)
    bound_set_member(&bound, score, member_text(member), False)
    if keeps_place(path.nodes[0], path.slots[0], arena, &bound):
        member_score(member)[0] = score
        path.nodes[0].hints[path.slots[0]] = bound.hint
        return
    remove_run(self, &path, 1)
    member_score(member)[0] = score
    tree_add(self, arena, handle)


# ---- All of it ---------------------------------------------------------------------------------

cdef node_t *dup_node(const node_t *node, uint32_t height, leaf_t **last) noexcept nogil:
    """Calls itself for children: at most HEIGHT_MAX deep."""
    cdef size_t size = sizeof(leaf_t) if height == 0 else sizeof(inner_t)
    cdef node_t *copy = <node_t *>mem_alloc(size)
    cdef uint32_t i
    memcpy(copy, node, size)
    if height == 0:
        (<leaf_t *>copy).previous = last[0]
        (<leaf_t *>copy).next = NULL
        if last[0] != NULL:
            last[0].next = <leaf_t *>copy
        last[0] = <leaf_t *>copy
    else:
        for i in range(node.count):
            (<inner_t *>copy).children[i] = dup_node((<const inner_t *>node).children[i], height - 1, last)
    return copy


cdef void tree_dup(const tree_t *self, tree_t *out) noexcept nogil:
    cdef leaf_t *last = NULL
    out[0] = self[0]
    out.root = dup_node(self.root, self.height, &last)


cdef bint tree_free_step(tree_t *self, uint64_t *budget) noexcept nogil:
    """From the right end."""
    cdef path_t path
    cdef node_t *node
    cdef uint32_t height
    while self.root != NULL:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        height = self.height
        node = self.root
        while height > 0 and node.count > 0:
            path.nodes[height] = node
            height -= 1
            node = (<inner_t *>node).children[node.count - 1]
        if height == self.height:
            self.root = NULL
        else:
            path.nodes[height + 1].count -= 1
        if height == 0:
            self.leaf_count -= 1
        else:
            self.inner_count -= 1
        mem_free(node)
    return True


cdef uint64_t tree_heap_bytes(const tree_t *self) noexcept nogil:
    return (self.leaf_count * <uint64_t>mem_good_size(sizeof(leaf_t))
            + self.inner_count * <uint64_t>mem_good_size(sizeof(inner_t)))


cdef uint64_t check_node(const node_t *node, uint32_t height, const arena_t *arena, leaf_t **last,
                         uint32_t *nodes) noexcept nogil:
    """The number of members below it."""
    cdef const inner_t *inner = <const inner_t *>node
    cdef const leaf_t *leaf = <const leaf_t *>node
    cdef uint64_t total = 0
    cdef uint64_t below
    cdef uint32_t i
    cdef char *member
    cdef bound_t bound
    nodes[1 if height > 0 else 0] += 1
    DFLY_CHECK(node.count <= NODE_SLOTS, "a node has its room")
    for i in range(node.count):
        member = member_at(arena, node.handles[i])
        DFLY_CHECK(node.hints[i] == score_hint(member_score(member)[0]), "hints are those of the scores")
        if i > 0:
            bound_set_member(&bound, member_score(member)[0], member_text(member), False)
            DFLY_CHECK(is_below(arena, node.handles[i - 1], &bound), "entries ascend")
        if height > 0:
            DFLY_CHECK(inner.children[i].count > 0, "a child has entries")
            DFLY_CHECK(inner.children[i].handles[0] == node.handles[i], "an entry is its child's least")
            below = check_node(inner.children[i], height - 1, arena, last, nodes)
            DFLY_CHECK(below == inner.counts[i], "an entry knows how many are below")
            total += below
    if height == 0:
        DFLY_CHECK(leaf.previous == last[0], "leaves know each other")
        DFLY_CHECK(last[0] == NULL or last[0].next == leaf, "leaves know each other")
        last[0] = <leaf_t *>leaf
        total = node.count
    return total


cdef bint tree_check(const tree_t *self, const arena_t *arena) noexcept nogil:
    cdef leaf_t *last = NULL
    cdef uint32_t nodes[2]
    nodes[0] = 0
    nodes[1] = 0
    DFLY_CHECK(check_node(self.root, self.height, arena, &last, nodes) == self.count, "the tree has its members")
    DFLY_CHECK(last.next == NULL, "the last leaf is the last")
    DFLY_CHECK(nodes[0] == self.leaf_count and nodes[1] == self.inner_count, "the tree knows its nodes")
    DFLY_CHECK(self.height == 0 or self.root.count > 1, "the root has children")
    return True
