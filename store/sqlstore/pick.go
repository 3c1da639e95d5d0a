package sqlstore

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// key is what orders attackers: latest seen first, then by UUID.
type key struct {
	uuid string
	seen int64
}

func newest(a, b key) int {
	if c := cmp.Compare(b.seen, a.seen); c != 0 {
		return c
	}
	return strings.Compare(a.uuid, b.uuid)
}

// source is a queue that a claim may take from, newest first.
type source struct {
	keys []key
	left int // how many may still be taken
}

// has reports whether k, which is no later than the first of src.keys, is that
// first one.
func (src *source) has(k key) bool { return len(src.keys) > 0 && src.keys[0] == k }

// pick returns the attackers to claim. It sets c.next to now if others are due.
func (c *claim) pick() ([]string, error) {
	due, err := c.readyKeys()
	if err != nil {
		return nil, err
	}
	sources, err := c.sources()
	if err != nil {
		return nil, err
	}
	var uuids []string
	for len(uuids) < c.req.Limit {
		var first key
		for _, src := range append(sources, due) {
			if src.left > 0 && len(src.keys) > 0 && (first.uuid == "" || newest(src.keys[0], first) < 0) {
				first = src.keys[0]
			}
		}
		if first.uuid == "" {
			break
		}
		uuids = append(uuids, first.uuid)
		isDue := due.has(first)
		if isDue {
			due.keys = due.keys[1:]
		}
		for _, src := range sources {
			src.drop(first, isDue)
		}
	}
	if len(due.keys) > 0 {
		c.next = min(c.next, c.now)
	}
	return uuids, nil
}

// drop takes an attacker that was picked out of the source, which pays for it
// unless the attacker was due anyway.
func (src *source) drop(k key, free bool) {
	i, found := slices.BinarySearchFunc(src.keys, k, newest)
	if !found {
		return
	}
	src.keys = slices.Delete(src.keys, i, i+1)
	if !free {
		src.left--
	}
}

// readyKeys returns the newest rows that are due, one more than the limit. Rows
// that are due only to a clock ahead of c.now go back to sleep.
func (c *claim) readyKeys() (*source, error) {
	for {
		src := &source{left: math.MaxInt}
		var early []string
		err := c.query("find attackers that are due", `SELECT attacker_uuid, last_seen, due_at FROM enrich_ledger
			WHERE state = 1 ORDER BY last_seen DESC, attacker_uuid LIMIT ?`, []any{c.req.Limit + 1},
			func(scan func(...any) error) error {
				var (
					k   key
					due int64
				)
				if err := scan(&k.uuid, &k.seen, &due); err != nil {
					return err
				}
				if due > c.now {
					early = append(early, k.uuid)
				} else {
					src.keys = append(src.keys, k)
				}
				return nil
			})
		if err != nil || len(early) == 0 {
			return src, err
		}
		for chunk := range slices.Chunk(early, maxParams) {
			err := c.exec("put attackers back to sleep", `UPDATE enrich_ledger SET state = 0, wake_at = due_at
				WHERE attacker_uuid IN `+params(len(chunk)), anys(chunk)...)
			if err != nil {
				return nil, err
			}
		}
	}
}

// sources returns the queues of attackers that the request grants although they
// may not be due.
func (c *claim) sources() ([]*source, error) {
	var sources []*source
	add := func(queue string, left int) error {
		src := &source{left: left}
		err := c.query("read a queue", `SELECT attacker_uuid, last_seen FROM enrich_queue
			WHERE queue = ? ORDER BY last_seen DESC, attacker_uuid LIMIT ?`, []any{queue, c.req.Limit},
			func(scan func(...any) error) error {
				var k key
				err := scan(&k.uuid, &k.seen)
				src.keys = append(src.keys, k)
				return err
			})
		if len(src.keys) > 0 {
			sources = append(sources, src)
		}
		return err
	}
	for name, g := range c.req.Grants {
		if g.Calls <= 0 {
			continue
		}
		if err := add(waitingFor+name, g.Calls); err != nil {
			return nil, err
		}
	}
	if len(c.req.Providers) == 0 {
		return sources, nil
	}
	for queue := parkedWith[:len(parkedWith)-1]; ; { // from one name to the next in the index
		var next *string
		_, err := c.one("list the queues of parked attackers",
			"SELECT min(queue) FROM enrich_queue WHERE queue > ? AND queue < ?",
			[]any{queue, parkedWith + "~"}, &next)
		if err != nil {
			return nil, err
		}
		if next == nil {
			return sources, nil
		}
		queue = *next
		if lacks(queue, c.req.Providers) {
			if err := add(queue, math.MaxInt); err != nil {
				return nil, err
			}
		}
	}
}
