package integration

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/gaissmai/bart"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/feed"
)

// networks returns n random prefixes of one family, of which a part are not
// single addresses.
func networks(n, family int, ofNetworks float64, seed uint64) []netip.Prefix {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	seen := make(map[netip.Prefix]bool, n)
	list := make([]netip.Prefix, 0, n)
	for len(list) < n {
		addr := publicAddr(r, family)
		length := addr.BitLen()
		if r.Float64() < ofNetworks {
			length = 16 + r.IntN(15)
			if family == 6 {
				length = 32 + r.IntN(33)
			}
		}
		p := netip.PrefixFrom(addr, length).Masked()
		if !seen[p] {
			seen[p] = true
			list = append(list, p)
		}
	}
	return list
}

func publicAddr(r *rand.Rand, family int) netip.Addr {
	if family == 4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], r.Uint32())
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], r.Uint64()>>3|0x2000<<48)
	binary.BigEndian.PutUint64(b[8:], r.Uint64())
	return netip.AddrFrom16(b)
}

// Every table agrees with bart.
func TestTableAgreesWithBart(t *testing.T) {
	t.Parallel()
	for _, family := range []int{4, 6} {
		list := networks(50_000, family, 0.5, 7)
		values := map[netip.Prefix]uint64{}
		var oracle bart.Table[uint64]
		for i, p := range list {
			values[p] = uint64(i)
			oracle.Insert(p, uint64(i))
		}
		table, err := feed.NewTable(maps.All(values))
		require.NoError(t, err)
		r := rand.New(rand.NewPCG(1, 1))
		for i := range 200_000 {
			addr := publicAddr(r, family)
			if i%2 == 0 {
				addr = list[r.IntN(len(list))].Addr()
			}
			want, known := oracle.Lookup(addr)
			got, found := table.Lookup(addr)
			require.Equal(t, known, found, addr)
			require.Equal(t, want, got, addr)
		}
	}
}

// heap returns how many bytes more are in use after f.
func heap(f func()) float64 {
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := measure()
	f()
	return float64(measure()) - float64(before)
}

// perLookup returns the times of a lookup in nanoseconds with each of several
// structures, which take turns. The addresses are looked up in parts that are shorter
// than the time for which a busy machine lets a process run. Of each part the least
// time of seven rounds counts.
func perLookup(addrs []netip.Addr, lookups ...func(netip.Addr) bool) []float64 {
	const part = 1 << 13
	least := make([][]time.Duration, len(lookups))
	for range 7 {
		for i, lookup := range lookups {
			for at := 0; at < len(addrs); at += part {
				begin := time.Now()
				for _, addr := range addrs[at:min(at+part, len(addrs))] {
					if lookup(addr) {
						hits++
					}
				}
				took := time.Since(begin)
				if n := at / part; n == len(least[i]) {
					least[i] = append(least[i], took)
				} else {
					least[i][n] = min(least[i][n], took)
				}
			}
		}
	}
	each := make([]float64, len(lookups))
	for i := range least {
		for _, took := range least[i] {
			each[i] += float64(took.Nanoseconds()) / float64(len(addrs))
		}
	}
	return each
}

var hits int // keeps lookups from being left out

// BenchmarkTable compares lookups and memory with a map of addresses and with
// bart, in the same run.
func BenchmarkTable(b *testing.B) {
	for _, size := range []struct {
		n        int
		networks float64
	}{{120_430, 0}, {atMost(1_000_000, 10_000), 0.25}} {
		for _, family := range []int{4, 6} {
			b.Run(fmt.Sprintf("v%d/%d", family, size.n), func(b *testing.B) {
				list := networks(size.n, family, size.networks, 3)
				r := rand.New(rand.NewPCG(5, 5))
				hit, miss := make([]netip.Addr, 1<<20), make([]netip.Addr, 1<<20)
				for i := range hit {
					hit[i], miss[i] = list[r.IntN(len(list))].Addr(), publicAddr(r, family)
				}
				var (
					table  *feed.Table[uint64]
					trie   *bart.Table[uint64]
					byAddr map[netip.Addr]uint64
					rowsOf = func(yield func(netip.Prefix, uint64) bool) {
						for i, p := range list {
							if !yield(p, uint64(i)) {
								return
							}
						}
					}
					took    time.Duration
					n       = float64(len(list))
					problem error
				)
				ours := heap(func() {
					begin := time.Now()
					table, problem = feed.NewTable(rowsOf)
					took = time.Since(begin)
				})
				require.NoError(b, problem)
				theirs := heap(func() {
					trie = new(bart.Table[uint64])
					for i, p := range list {
						trie.Insert(p, uint64(i))
					}
				})
				mapped := heap(func() {
					byAddr = make(map[netip.Addr]uint64)
					for i, p := range list {
						byAddr[p.Addr()] = uint64(i)
					}
				})
				for range b.N {
					for what, addrs := range map[string][]netip.Addr{"hit": hit, "miss": miss} {
						times := perLookup(addrs,
							func(a netip.Addr) bool { _, ok := table.Lookup(a); return ok },
							func(a netip.Addr) bool { _, ok := trie.Lookup(a); return ok },
							func(a netip.Addr) bool { _, ok := byAddr[a]; return ok })
						own, bart, amap := times[0], times[1], times[2]
						b.ReportMetric(own, "ns/"+what)
						b.ReportMetric(own/bart, "x-bart/"+what)
						b.ReportMetric(own/amap, "x-map/"+what)
					}
				}
				b.ReportMetric(ours/n, "B/row")
				b.ReportMetric(ours/theirs, "x-bart/B")
				b.ReportMetric(ours/mapped, "x-map/B")
				b.ReportMetric(float64(took.Milliseconds()), "ms/build")
				runtime.KeepAlive(table)
				runtime.KeepAlive(trie)
				runtime.KeepAlive(byAddr)
			})
		}
	}
}
