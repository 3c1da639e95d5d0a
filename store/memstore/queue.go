package memstore

import (
	"bytes"
	"cmp"
)

// queue is a binary heap of rows, the first according to before on top.
type queue struct {
	before func(a, b *row) bool
	slots  []*slot
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

// first returns the row on top, or nil.
func (q *queue) first() *row {
	if len(q.slots) == 0 {
		return nil
	}
	return q.slots[0].row
}

// push puts the slot, which must be in no queue, into q.
func (q *queue) push(s *slot) {
	s.in, s.index = q, len(q.slots)
	q.slots = append(q.slots, s)
	q.up(s.index)
}

// leave takes the slot out of its queue, if it is in one.
func (s *slot) leave() {
	q := s.in
	if q == nil {
		return
	}
	s.in = nil
	last := len(q.slots) - 1
	i := s.index
	q.put(i, q.slots[last])
	q.slots[last] = nil
	q.slots = q.slots[:last]
	if i < last && !q.up(i) {
		q.down(i)
	}
}

func (q *queue) put(i int, s *slot) {
	q.slots[i] = s
	s.index = i
}

// up moves the slot at i towards the top as far as it belongs, and reports
// whether it moved.
func (q *queue) up(i int) bool {
	s, start := q.slots[i], i
	for i > 0 {
		parent := (i - 1) / 2
		if !q.before(s.row, q.slots[parent].row) {
			break
		}
		q.put(i, q.slots[parent])
		i = parent
	}
	q.put(i, s)
	return i != start
}

// down moves the slot at i away from the top as far as it belongs.
func (q *queue) down(i int) {
	s := q.slots[i]
	for {
		child := 2*i + 1
		if child >= len(q.slots) {
			break
		}
		if right := child + 1; right < len(q.slots) && q.before(q.slots[right].row, q.slots[child].row) {
			child = right
		}
		if !q.before(q.slots[child].row, s.row) {
			break
		}
		q.put(i, q.slots[child])
		i = child
	}
	q.put(i, s)
}
