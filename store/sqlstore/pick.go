package sqlstore

import (
	"cmp"
	"maps"
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

// source is a queue that a claim may take from.
type source struct {
	provider string // whose grant pays, empty if nothing has to be paid
	keys     []key
	left     int // how many may still be taken
}

// first returns the first attacker that may be taken and was not picked yet, and
// the zero key if there is none.
func (src *source) first(picked map[string][]string) key {
	for src.left > 0 && len(src.keys) > 0 {
		k := src.keys[0]
		if _, ok := picked[k.uuid]; !ok {
			return k
		}
		src.keys = src.keys[1:]
	}
	return key{}
}

// pick returns the attackers to claim, with the providers whose grants pay for
// them. It sets c.next to now if others are due.
func (c *claim) pick() (map[string][]string, error) {
	due, err := c.readyKeys()
	if err != nil {
		return nil, err
	}
	granted, err := c.granted()
	if err != nil {
		return nil, err
	}
	picked := make(map[string][]string)
	for _, src := range granted {
		if err := c.pickLongest(src, granted, picked); err != nil {
			return nil, err
		}
	}
	parked, err := c.parked()
	if err != nil {
		return nil, err
	}
	for len(picked) < c.req.Limit {
		k, from := due.first(picked), due
		for _, src := range slices.Concat(granted, parked) {
			if next := src.first(picked); next.uuid != "" && (k.uuid == "" || newest(next, k) < 0) {
				k, from = next, src
			}
		}
		if k.uuid == "" {
			break
		}
		picked[k.uuid] = nil
		if from.provider == "" {
			continue
		}
		if picked[k.uuid], err = c.pay(k, granted); err != nil {
			return nil, err
		}
	}
	if due.first(picked).uuid != "" {
		c.next = min(c.next, c.now)
	}
	return picked, nil
}

// pickLongest picks those that have been waiting longest for the source's
// provider, as many as its grant says.
func (c *claim) pickLongest(src *source, granted []*source, picked map[string][]string) error {
	n := min(c.req.Grants[src.provider].Oldest, c.req.Limit-len(picked))
	if n <= 0 || len(src.keys) == 0 {
		return nil
	}
	longest, err := c.queued("since, attacker_uuid", waitingFor+src.provider, len(picked)+n)
	if err != nil {
		return err
	}
	for _, k := range longest {
		if _, ok := picked[k.uuid]; ok {
			continue
		}
		if n == 0 || src.left == 0 {
			break
		}
		n--
		if picked[k.uuid], err = c.pay(k, granted); err != nil {
			return err
		}
	}
	return nil
}

// pay counts an attacker against the grants of all providers it waits for that
// have any left, and returns their names, sorted as the sources are.
func (c *claim) pay(k key, granted []*source) (names []string, err error) {
	queues := make(map[string]bool)
	err = c.query("read what an attacker waits for", "SELECT queue FROM enrich_queue WHERE attacker_uuid = ?",
		[]any{k.uuid}, func(scan func(...any) error) error {
			var queue string
			err := scan(&queue)
			queues[queue] = true
			return err
		})
	for _, src := range granted {
		if src.left > 0 && queues[waitingFor+src.provider] {
			src.left--
			names = append(names, src.provider)
		}
	}
	return names, err
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

// queued returns the first n attackers of a queue in that order.
func (c *claim) queued(order, queue string, n int) (keys []key, err error) {
	err = c.query("read a queue", "SELECT attacker_uuid, last_seen FROM enrich_queue WHERE queue = ? ORDER BY "+order+" LIMIT ?",
		[]any{queue, n}, func(scan func(...any) error) error {
			var k key
			err := scan(&k.uuid, &k.seen)
			keys = append(keys, k)
			return err
		})
	return keys, err
}

// source returns a queue to take from, those of the greatest rank first and
// among equals the newest.
func (c *claim) source(queue, provider string, left int) (*source, error) {
	keys, err := c.queued("ranked DESC, last_seen DESC, attacker_uuid", queue, c.req.Limit)
	return &source{provider, keys, left}, err
}

// granted returns the queues of attackers that the request grants although they
// may not be due, in order of provider.
func (c *claim) granted() ([]*source, error) {
	var sources []*source
	for _, name := range slices.Sorted(maps.Keys(c.req.Grants)) {
		if c.req.Grants[name].Calls <= 0 {
			continue
		}
		src, err := c.source(waitingFor+name, name, c.req.Grants[name].Calls)
		if err != nil {
			return nil, err
		}
		sources = append(sources, src)
	}
	return sources, nil
}

// parked returns the queues of parked attackers that the request has a new
// provider for.
func (c *claim) parked() ([]*source, error) {
	if len(c.req.Providers) == 0 {
		return nil, nil
	}
	var sources []*source
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
		if !lacks(queue, c.req.Providers) {
			continue
		}
		src, err := c.source(queue, "", math.MaxInt)
		if err != nil {
			return nil, err
		}
		sources = append(sources, src)
	}
}
