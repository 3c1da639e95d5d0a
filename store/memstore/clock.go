package memstore

import (
	"time"

	"github.com/decnet/enrich/store"
)

// clockStep is by how much the clock may be set back without being taken for one
// that was wrong.
const clockStep = time.Minute

// clock returns the time. If the clock was set back it takes back what it said
// before: leases that end too late are over.
func (s *Store) clock() time.Time {
	now := time.Now()
	if now.Round(0).Add(clockStep).Before(s.latest) {
		for i := 0; i < len(s.leases.heap); {
			if r := s.leases.heap[i].slot.row; r.until-r.lasts > now.UnixMicro() {
				s.move(r, func() { r.leased = false })
				i = 0
				continue
			}
			i++
		}
	}
	s.latest = now.Round(0)
	return now
}

// beyond corrects what lies later than anything can be: a row that is due then is due
// now, and one that waits since then waits from now on. It looks at all rows if the
// clock of the claims was set back, and now and then.
func (s *Store) beyond(req *store.ClaimRequest) {
	const often = time.Hour
	since := req.Now.Sub(s.looked)
	if req.Horizon <= 0 || !s.looked.IsZero() && since >= 0 && since < often {
		return
	}
	if since < 0 && since > -clockStep { // claims that run together
		return
	}
	s.looked = req.Now
	latest := req.Now.Add(req.Horizon).UnixMicro()
	var wrong []*row
	for _, n := range s.sleeping.heap {
		if n.slot.row.due > latest {
			wrong = append(wrong, n.slot.row)
		}
	}
	for _, r := range wrong {
		s.move(r, func() { r.due = atOnce })
	}
	for name, q := range s.longest {
		wrong = wrong[:0]
		for _, n := range q.heap {
			if n.key.first > latest {
				wrong = append(wrong, n.slot.row)
			}
		}
		for _, r := range wrong {
			s.move(r, func() { r.entry(name).Since = req.Now.UTC() })
		}
	}
}
