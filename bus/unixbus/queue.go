package unixbus

import "slices"

// maxBatch is about how many bytes are written at once.
const maxBatch = 64 << 10

// queue holds frames that have to be written, up to so many frames and bytes.
type queue struct {
	maxFrames int
	maxBytes  int

	frames [][]byte // frames[head:] are in the queue
	head   int
	bytes  int
}

func (q *queue) len() int { return len(q.frames) - q.head }

// push appends a frame and drops the oldest ones that there is no room for. A
// frame that is alone always has room.
func (q *queue) push(f []byte) (dropped int) {
	for q.len() >= q.maxFrames || q.len() > 0 && q.bytes+len(f) > q.maxBytes {
		q.pop()
		dropped++
	}
	q.add(f)
	return dropped
}

// add appends a frame whether or not there is room.
func (q *queue) add(f []byte) {
	if q.head > 0 && q.head >= len(q.frames)/2 {
		q.frames = slices.Delete(q.frames, 0, q.head)
		q.head = 0
	}
	q.frames = append(q.frames, f)
	q.bytes += len(f)
}

// pop removes the oldest frame and returns it.
func (q *queue) pop() []byte {
	f := q.frames[q.head]
	q.frames[q.head] = nil
	q.head++
	q.bytes -= len(f)
	if q.len() == 0 {
		q.frames, q.head = q.frames[:0], 0
	}
	return f
}

// batch moves frames, but no more than can be written at once, to dst.
func (q *queue) batch(dst [][]byte) [][]byte {
	for size := 0; q.len() > 0; {
		size += len(q.frames[q.head])
		if len(dst) > 0 && size > maxBatch {
			break
		}
		dst = append(dst, q.pop())
	}
	return dst
}

// clear empties the queue and returns how many frames were in it.
func (q *queue) clear() int {
	n := q.len()
	q.frames, q.head, q.bytes = nil, 0, 0
	return n
}
