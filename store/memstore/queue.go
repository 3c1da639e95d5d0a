package memstore

import (
	"bytes"
	"cmp"
)

// queue is a binary heap of rows, the one with the least key on top, and among
// equal keys the one with the least ID.
type queue struct {
	key  func(*row) key // constant while the row is in the queue
	heap []node
	// emptied is called when the last row has left; may be nil.
	emptied func()
}

// key orders rows by its first part, and among equals by its second.
type key struct{ first, then int64 }

// node holds the key beside the slot, so that comparing mostly stays within the
// heap.
type node struct {
	key  key
	slot *slot
}

func (n node) before(other node) bool {
	switch {
	case n.key.first != other.key.first:
		return n.key.first < other.key.first
	case n.key.then != other.key.then:
		return n.key.then < other.key.then
	}
	return bytes.Compare(n.slot.row.ID[:], other.slot.row.ID[:]) < 0
}

// slot is a row's place in a queue, or in none. It lets a row leave from the
// middle.
type slot struct {
	row   *row
	in    *queue
	index int
}

// byNewest compares rows by LastSeen, latest first, then by ID: no two rows are
// equal.
func byNewest(a, b *row) int {
	if c := cmp.Compare(b.seen, a.seen); c != 0 {
		return c
	}
	return bytes.Compare(a.ID[:], b.ID[:])
}

// newer reports whether a comes before b in the order of byNewest.
func newer(a, b *row) bool { return byNewest(a, b) < 0 }

// newest is the key of queues in the order of byNewest.
func newest(r *row) key { return key{-r.seen, 0} }

// first returns the row on top, or nil.
func (q *queue) first() *row {
	if len(q.heap) == 0 {
		return nil
	}
	return q.heap[0].slot.row
}

// push puts the slot, which must be in no queue, into q.
func (q *queue) push(s *slot) {
	s.in, s.index = q, len(q.heap)
	q.heap = append(q.heap, node{q.key(s.row), s})
	q.up(s.index)
}

// leave takes the slot out of its queue, if it is in one.
func (s *slot) leave() {
	q := s.in
	if q == nil {
		return
	}
	s.in = nil
	last := len(q.heap) - 1
	i := s.index
	q.put(i, q.heap[last])
	q.heap[last] = node{}
	q.heap = q.heap[:last]
	if i < last && !q.up(i) {
		q.down(i)
	}
	if last == 0 && q.emptied != nil {
		q.emptied()
	}
}

func (q *queue) put(i int, n node) {
	q.heap[i] = n
	n.slot.index = i
}

// up moves the node at i towards the top as far as it belongs, and reports
// whether it moved.
func (q *queue) up(i int) bool {
	n, start := q.heap[i], i
	for i > 0 {
		parent := (i - 1) / 2
		if !n.before(q.heap[parent]) {
			break
		}
		q.put(i, q.heap[parent])
		i = parent
	}
	q.put(i, n)
	return i != start
}

// down moves the node at i away from the top as far as it belongs.
func (q *queue) down(i int) {
	n := q.heap[i]
	for {
		child := 2*i + 1
		if child >= len(q.heap) {
			break
		}
		if right := child + 1; right < len(q.heap) && q.heap[right].before(q.heap[child]) {
			child = right
		}
		if !q.heap[child].before(n) {
			break
		}
		q.put(i, q.heap[child])
		i = child
	}
	q.put(i, n)
}
