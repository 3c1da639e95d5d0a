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

// candidate is an attacker that may be claimed.
type candidate struct {
	key
	queues string // see queuesOf
}

// stands reports whether the candidate is in a queue.
func (c *candidate) stands(queue string) bool {
	for text := range strings.FieldsSeq(c.queues) {
		if rest, ok := strings.CutPrefix(text, queue); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// source is a queue that a claim may take from.
type source struct {
	name    string // the provider that its attackers wait for; empty if they wait for none
	queue   string
	left    int         // how many may still be taken
	oldest  int         // how many of them are those waiting longest
	first   []candidate // greatest rank first, then newest
	longest []candidate // those waiting longest first
}

// picker chooses among candidates.
type picker struct {
	sources []*source
	limit   int
	picked  map[string][]string // by UUID: the providers whose grant pays
}

// rest returns the list from its first candidate on that was not picked.
func (p *picker) rest(list []candidate) []candidate {
	for len(list) > 0 {
		if _, ok := p.picked[list[0].uuid]; !ok {
			break
		}
		list = list[1:]
	}
	return list
}

// take picks a candidate. The sources in which it stands pay for it, unless it
// is due anyway.
func (p *picker) take(c candidate, due bool) {
	granted := []string(nil)
	for _, src := range p.sources {
		if !due && src.left > 0 && c.stands(src.queue) {
			src.left--
			if src.name != "" {
				granted = append(granted, src.name)
			}
		}
	}
	p.picked[c.uuid] = granted
}

// pick chooses among those that are due, newest first, and those in sources. It
// returns whether it left any that are due.
func (p *picker) pick(due []candidate) (more bool) {
	for _, src := range p.sources {
		for range min(src.oldest, p.limit-len(p.picked)) {
			src.longest = p.rest(src.longest)
			if len(src.longest) == 0 || src.left <= 0 {
				break
			}
			p.take(src.longest[0], false)
		}
	}
	for len(p.picked) < p.limit {
		due = p.rest(due)
		best, isDue := (*candidate)(nil), false
		if len(due) > 0 {
			best, isDue = &due[0], true
		}
		for _, src := range p.sources {
			src.first = p.rest(src.first)
			if src.left > 0 && len(src.first) > 0 && (best == nil || newest(src.first[0].key, best.key) < 0) {
				best, isDue = &src.first[0], false
			}
		}
		if best == nil {
			return false
		}
		p.take(*best, isDue)
	}
	return len(p.rest(due)) > 0
}

// sources returns the queues of attackers that the request grants although they
// may not be due, without what stands in them.
func (c *claim) sources() ([]*source, error) {
	var sources []*source
	for _, name := range slices.Sorted(maps.Keys(c.req.Grants)) {
		if g := c.req.Grants[name]; g.Calls > 0 {
			sources = append(sources, &source{name: name, queue: waitingFor + name, left: g.Calls, oldest: min(g.Oldest, g.Calls)})
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
		if err != nil || next == nil {
			return sources, err
		}
		queue = *next
		if lacks(queue, c.req.Providers) {
			sources = append(sources, &source{queue: queue, left: math.MaxInt})
		}
	}
}

// fill reads who stands in the sources, and returns those that are not empty.
func (c *claim) fill(sources []*source) (filled []*source, err error) {
	read := func(src *source, order string) (list []candidate, err error) {
		err = c.query("read a queue", `SELECT q.attacker_uuid, q.last_seen, l.queues FROM enrich_queue q
			JOIN enrich_ledger l ON l.attacker_uuid = q.attacker_uuid
			WHERE q.queue = ? ORDER BY `+order+`, q.attacker_uuid`+c.limitFor(c.req.Limit), []any{src.queue},
			func(scan func(...any) error) error {
				var k candidate
				err := scan(&k.uuid, &k.seen, &k.queues)
				list = append(list, k)
				return err
			})
		return list, err
	}
	for _, src := range sources {
		if src.first, err = read(src, "q.ranked DESC, q.last_seen DESC"); err != nil {
			return nil, err
		}
		if len(src.first) == 0 {
			continue
		}
		if src.oldest > 0 {
			if src.longest, err = read(src, "q.since"); err != nil {
				return nil, err
			}
		}
		filled = append(filled, src)
	}
	return filled, nil
}

// lacks reports whether the queue of parked rows is one of rows that have no
// entry of one of the named providers.
func lacks(queue string, providers []string) bool {
	have := strings.Split(strings.TrimPrefix(queue, parkedWith), ",")
	return slices.ContainsFunc(providers, func(name string) bool { return !slices.Contains(have, name) })
}

// newestRow orders rows as a claim returns them.
func newestRow(a, b *row) int {
	return newest(key{a.uuid, a.seen}, key{b.uuid, b.seen})
}
