package upstream

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// epoch is the day around which the derived answers lie, so that they are the
// same whenever they are given.
var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// book holds the answers that were set explicitly.
type book struct {
	mu        sync.RWMutex
	profiles  map[netip.Addr]Profile
	responses map[subject]Response
	greyNoise map[netip.Addr]GreyNoiseAnswer
	abuseIPDB map[netip.Addr]AbuseIPDBAnswer
	threatFox map[netip.Addr][]ThreatFoxRow
	feodo     []FeodoRow
	feodoBody []byte
	feodoTag  string
	feodoTime string
}

type subject struct {
	source Source
	addr   netip.Addr
}

// Response is an HTTP response word for word.
type Response struct {
	Status int // zero means 200
	Header http.Header
	Body   string
}

// SetProfile sets what all services say about addr. It also puts addr on the
// Feodo list if the profile is [C2], and takes it off if not. An answer set by
// one of the other methods goes before it.
func (s *Server) SetProfile(addr netip.Addr, p Profile) {
	b := &s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	put(&b.profiles, addr, p)
	rows := slices.DeleteFunc(slices.Clone(b.feodo), func(r FeodoRow) bool { return r.Addr == addr })
	if p == C2 {
		rows = append(rows, feodoRow(addr))
	}
	b.setFeodo(rows)
}

// SetResponse sets the response to every request about addr, whatever key it
// carries; the zero Response ends that. Requests to [Feodo] and [Custom] are
// about the zero Addr.
func (s *Server) SetResponse(source Source, addr netip.Addr, r Response) {
	b := &s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	put(&b.responses, subject{source, addr}, r)
	if r.Status == 0 && r.Header == nil && r.Body == "" {
		delete(b.responses, subject{source, addr})
	}
}

// SetGreyNoise sets what GreyNoise says about addr.
func (s *Server) SetGreyNoise(addr netip.Addr, a GreyNoiseAnswer) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	put(&s.book.greyNoise, addr, a)
}

// SetAbuseIPDB sets what AbuseIPDB says about addr.
func (s *Server) SetAbuseIPDB(addr netip.Addr, a AbuseIPDBAnswer) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	put(&s.book.abuseIPDB, addr, a)
}

// SetThreatFox sets the rows that ThreatFox has about addr, none included.
func (s *Server) SetThreatFox(addr netip.Addr, rows ...ThreatFoxRow) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	put(&s.book.threatFox, addr, slices.Clone(rows))
}

// SetFeodo replaces the block list; without rows it is empty.
func (s *Server) SetFeodo(rows ...FeodoRow) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	s.book.setFeodo(slices.Clone(rows))
}

func (b *book) setFeodo(rows []FeodoRow) {
	b.feodo = rows
	b.feodoBody = feodoJSON(rows)
	sum := fnv.New64a()
	sum.Write(b.feodoBody)
	b.feodoTag = fmt.Sprintf(`"%016x"`, sum.Sum64())
	b.feodoTime = epoch.Add(time.Duration(sum.Sum64()%(7*24*3600)) * time.Second).Format(http.TimeFormat)
}

// profile returns the profile that the service sees in addr. The caller holds
// the lock.
func (b *book) profile(source Source, addr netip.Addr) Profile {
	if p, ok := b.profiles[addr]; ok {
		return p
	}
	p := ProfileOf(addr)
	if p != C2 && overlooked(source, addr) {
		return Unseen
	}
	return p
}

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// encode returns v as JSON. The types of this package always encode.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
