package feed_test

import (
	"encoding/binary"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/feed"
)

// entry is a row of a table under test.
type entry struct {
	prefix netip.Prefix
	value  int
}

func rows(entries []entry) iter.Seq2[netip.Prefix, int] {
	return func(yield func(netip.Prefix, int) bool) {
		for _, e := range entries {
			if !yield(e.prefix, e.value) {
				return
			}
		}
	}
}

func newTable(t testing.TB, entries []entry) *feed.Table[int] {
	t.Helper()
	table, err := feed.NewTable(rows(entries))
	require.NoError(t, err)
	return table
}

// naive looks at every row.
func naive(entries []entry, addr netip.Addr) (value int, found bool) {
	longest := -1
	for _, e := range entries {
		if e.prefix.Contains(addr) && e.prefix.Bits() >= longest {
			value, found, longest = e.value, true, e.prefix.Bits()
		}
	}
	return value, found
}

func TestTable(t *testing.T) {
	t.Parallel()
	p := netip.MustParsePrefix
	table := newTable(t, []entry{
		{p("10.0.0.0/8"), 1}, {p("10.1.0.0/16"), 2}, {p("10.1.2.3/32"), 3}, {p("10.1.2.3/32"), 4}, {p("192.0.2.77/24"), 5},
		{p("::ffff:198.51.100.0/120"), 6}, {p("64:ff9b::203.0.113.0/120"), 7},
		{p("2a0e::/16"), 8}, {p("2a0e:1::/32"), 9}, {p("2a0e:1::5/128"), 10}, {p("fc00::/7"), 11},
	})
	require.Equal(t, 10, table.Len())
	for text, want := range map[string]int{
		"10.0.0.0": 1, "10.255.255.255": 1, "10.1.0.0": 2, "10.1.2.2": 2, "10.1.2.3": 4, "10.1.2.4": 2, "10.2.0.0": 1,
		"192.0.2.0": 5, "192.0.2.255": 5, "198.51.100.9": 6, "::ffff:198.51.100.9": 6, "203.0.113.1": 7, "64:ff9b::203.0.113.1": 7,
		"::ffff:10.1.2.3": 4, "2a0e::1": 8, "2a0e:1::4": 9, "2a0e:1::5": 10, "2a0e:1::5%eth0": 10, "2a0e:2::": 8, "fd00::1": 11,
	} {
		value, found := table.Lookup(netip.MustParseAddr(text))
		require.True(t, found, text)
		require.Equal(t, want, value, text)
	}
	for text, want := range map[string]string{
		"10.1.2.4": "10.1.0.0/16", "::ffff:198.51.100.9": "198.51.100.0/24", "2a0e:1::5": "2a0e:1::5/128", "fd00::1": "fc00::/7",
	} {
		prefix, _, found := table.Find(netip.MustParseAddr(text))
		require.True(t, found, text)
		require.Equal(t, p(want), prefix, text)
	}
	nothing, _, known := table.Find(netip.MustParseAddr("9.9.9.9"))
	require.False(t, known)
	require.Equal(t, netip.Prefix{}, nothing)
	for _, text := range []string{"9.255.255.255", "11.0.0.0", "0.0.0.0", "255.255.255.255", "192.0.1.255", "192.0.3.0", "::", "2a0d::1", "2a0f::", "ff02::1", "::10.1.2.3"} {
		_, found := table.Lookup(netip.MustParseAddr(text))
		require.False(t, found, text)
	}
	_, found := table.Lookup(netip.Addr{})
	require.False(t, found)
	first, stop := iter.Pull2(table.All())
	defer stop()
	prefix, value, _ := first()
	require.Equal(t, p("10.0.0.0/8"), prefix)
	require.Equal(t, 1, value)
	require.Equal(t, 10, len(maps.Collect(table.All())))
}

func TestTableOfNothing(t *testing.T) {
	t.Parallel()
	for _, table := range []*feed.Table[int]{nil, newTable(t, nil)} {
		require.Zero(t, table.Len())
		require.Empty(t, maps.Collect(table.All()))
		for _, text := range []string{"1.1.1.1", "2a0e::1"} {
			_, found := table.Lookup(netip.MustParseAddr(text))
			require.False(t, found)
		}
	}
}

func TestTableOfEverything(t *testing.T) {
	t.Parallel()
	p := netip.MustParsePrefix
	table := newTable(t, []entry{{p("0.0.0.0/0"), 4}, {p("::/0"), 6}, {p("255.255.255.255/32"), 5}, {p("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"), 7}})
	for text, want := range map[string]int{
		"0.0.0.0": 4, "255.255.255.254": 4, "255.255.255.255": 5, "::": 6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe": 6,
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": 7,
	} {
		value, _ := table.Lookup(netip.MustParseAddr(text))
		require.Equal(t, want, value, text)
	}
}

func TestTableRefusesAnInvalidPrefix(t *testing.T) {
	t.Parallel()
	_, err := feed.NewTable(rows([]entry{{netip.MustParsePrefix("1.1.1.1/32"), 1}, {}}))
	require.ErrorContains(t, err, "row 2 has an invalid prefix")
}

// randomPrefix returns prefixes of which many lie within others.
func randomPrefix(r *rand.Rand) netip.Prefix {
	if r.IntN(2) == 0 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0x2d000000|r.Uint32()>>uint(r.IntN(24)))
		return netip.PrefixFrom(netip.AddrFrom4(b), 8+r.IntN(25)).Masked()
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], 0x2a0e<<48|r.Uint64()>>uint(16+r.IntN(48)))
	binary.BigEndian.PutUint64(b[8:], r.Uint64()>>uint(r.IntN(64)))
	if r.IntN(4) == 0 {
		b[0] = byte(r.Uint32())
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), 8+r.IntN(121)).Masked()
}

// near returns an address at an edge of a prefix, or one beyond it.
func near(r *rand.Rand, p netip.Prefix) netip.Addr {
	switch r.IntN(3) {
	case 0:
		return p.Addr()
	case 1:
		if before := p.Addr().Prev(); before.IsValid() {
			return before
		}
	}
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	if next := last.Next(); r.IntN(2) == 0 && next.IsValid() {
		return next
	}
	return last
}

// TestTableAgreesWithALookAtEveryRow covers tables with and without an index.
func TestTableAgreesWithALookAtEveryRow(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		entries := make([]entry, 1+r.IntN(1200))
		for i := range entries {
			entries[i] = entry{randomPrefix(r), i}
		}
		table := newTable(t, entries)
		for range 400 {
			addr := near(r, entries[r.IntN(len(entries))].prefix)
			want, known := naive(entries, addr)
			got, found := table.Lookup(addr)
			require.Equal(t, known, found, "seed %d, %v", seed, addr)
			require.Equal(t, want, got, "seed %d, %v", seed, addr)
		}
	}
}

func TestTheLastAddress(t *testing.T) {
	t.Parallel()
	const last = "255.255.255.255"
	for n := range 12 { // rows that begin before the last address, in one place of the index
		var entries []entry
		addr := netip.MustParseAddr(last)
		for i := range n {
			addr = addr.Prev()
			entries = append(entries, entry{netip.PrefixFrom(addr, 32), i})
		}
		_, found := newTable(t, entries).Lookup(netip.MustParseAddr(last))
		require.False(t, found, n)
		value, found := newTable(t, append(entries, entry{netip.MustParsePrefix(last + "/32"), n})).Lookup(netip.MustParseAddr(last))
		require.True(t, found, n)
		require.Equal(t, n, value)
		value, found = newTable(t, append(entries, entry{netip.MustParsePrefix("255.0.0.0/8"), 99})).Lookup(netip.MustParseAddr(last))
		require.True(t, found, n)
		require.Equal(t, 99, value)
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	table := newTable(t, []entry{{netip.MustParsePrefix("10.0.0.0/8"), 1}, {netip.MustParsePrefix("2a0e::/16"), 2}})
	for _, text := range []string{"10.1.1.1", "11.1.1.1", "2a0e::1", "2a0f::1"} {
		addr := netip.MustParseAddr(text)
		require.Zero(t, testing.AllocsPerRun(100, func() { table.Lookup(addr) }))
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte("\x0a\x00\x00\x00\x08\x0a\x01\x00\x00\x10"), []byte("\x0a\x01\x02\x03"))
	f.Fuzz(func(t *testing.T, data, at []byte) {
		var entries []entry
		size := 4
		if len(at) == 16 {
			size = 16
		}
		for len(data) > size {
			addr, _ := netip.AddrFromSlice(data[:size])
			if p, err := addr.Prefix(int(data[size]) % (addr.BitLen() + 1)); err == nil && !addr.Is4In6() {
				entries = append(entries, entry{p, len(entries)})
			}
			data = data[size+1:]
		}
		addr, ok := netip.AddrFromSlice(at)
		if !ok || addr.Is4In6() || addr.Is6() && netip.MustParsePrefix("64:ff9b::/96").Contains(addr) {
			return
		}
		table := newTable(t, entries)
		want, known := naive(entries, addr)
		got, found := table.Lookup(addr)
		require.Equal(t, known, found)
		require.Equal(t, want, got)
	})
}
