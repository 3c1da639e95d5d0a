package sqlstore

import (
	"cmp"
	"fmt"
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
	queues        string // see queuesOf
	ranked, since int64  // where it stands in the queue it was read from
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
	for _, name := range granted(c.req) {
		if g := c.req.Grants[name]; c.waiting[name] {
			sources = append(sources, &source{name: name, queue: waitingFor + name, left: g.Calls, oldest: min(g.Oldest, g.Calls)})
		}
	}
	if len(c.req.Providers) == 0 {
		return sources, nil
	}
	for queue := c.parked; queue != nil; { // from one name to the next in the index
		if lacks(*queue, c.req.Providers) {
			sources = append(sources, &source{queue: *queue, left: math.MaxInt})
		}
		var next *string
		_, err := c.one("list the queues of parked attackers", "SELECT min(queue) FROM enrich_queue WHERE queue > ? AND queue < ?",
			[]any{*queue, parkedWith + "~"}, &next)
		if err != nil {
			return nil, err
		}
		queue = next
	}
	return sources, nil
}

// fill reads what stands in the sources, with one query, and returns those that
// are not empty.
func (c *claim) fill(sources []*source) (filled []*source, err error) {
	var (
		parts []string
		args  []any
	)
	read := func(i, longest int, which, order string) {
		parts = append(parts, fmt.Sprintf(`SELECT * FROM (SELECT %d AS source, %d AS longest, q.ranked, q.since,
			q.attacker_uuid, q.last_seen, l.queues FROM enrich_queue q JOIN enrich_ledger l ON l.attacker_uuid = q.attacker_uuid
			WHERE q.queue = ?%s ORDER BY %s, q.attacker_uuid%s) part%d`, i, longest, which, order, c.limitFor(c.req.Limit), len(parts)))
		args = append(args, sources[i].queue)
	}
	latest := int64(math.MaxInt64) // who waits since later does so by a clock that was wrong
	if c.req.Horizon > 0 {
		latest = c.now + c.req.Horizon.Microseconds()
	}
	for i, src := range sources {
		read(i, 0, "", "q.ranked DESC, q.last_seen DESC")
		if src.oldest > 0 {
			read(i, 1, "", "q.since")
			if c.req.Horizon > 0 {
				read(i, 1, " AND q.since > ?", "q.since")
				args = append(args, latest)
			}
		}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	err = c.query("read the queues", strings.Join(parts, " UNION ALL "), args, func(scan func(...any) error) error {
		var (
			i, longest int
			k          candidate
		)
		if err := scan(&i, &longest, &k.ranked, &k.since, &k.uuid, &k.seen, &k.queues); err != nil {
			return err
		}
		if k.since > latest { // as long as anybody
			k.since = math.MinInt64
		}
		if longest == 0 {
			sources[i].first = append(sources[i].first, k)
		} else {
			sources[i].longest = append(sources[i].longest, k)
		}
		return nil
	})
	// Databases return the parts in order, and need not.
	for _, src := range sources {
		slices.SortStableFunc(src.first, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(b.ranked, a.ranked), cmp.Compare(b.seen, a.seen))
		})
		slices.SortStableFunc(src.longest, func(a, b candidate) int { return cmp.Compare(a.since, b.since) })
		if len(src.first) > 0 {
			filled = append(filled, src)
		}
	}
	return filled, err
}

// lacks reports whether the queue of parked rows is one of rows that have no
// entry of one of the named providers.
func lacks(queue string, providers []string) bool {
	names := strings.TrimPrefix(queue, parkedWith)
	if names == anyNames {
		return false
	}
	if short, ok := strings.CutPrefix(names, shortNames); ok {
		return slices.ContainsFunc(providers, func(name string) bool {
			for i := 0; i+4 <= len(short); i += 4 {
				if short[i:i+4] == shortName(name) {
					return false
				}
			}
			return true
		})
	}
	have := strings.Split(names, ",")
	return slices.ContainsFunc(providers, func(name string) bool { return !slices.Contains(have, name) })
}

// newestRow orders rows as a claim returns them.
func newestRow(a, b *row) int {
	return newest(key{a.uuid, a.seen}, key{b.uuid, b.seen})
}
