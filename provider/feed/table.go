package feed

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/decnet/enrich/provider"
)

// MaxRows is the greatest number of rows of a [Table].
const MaxRows = 1 << 25

// Table finds the most specific network that contains an address, and the value
// of its row. A table is never changed, so any number of goroutines may use it.
// A nil Table is empty.
//
// The networks of each address family are sorted by their first address. Each
// row knows the smallest row around it, so that nested networks take no more
// memory than others. An index over the leading bits leads to the few rows among
// which a lookup searches. With a T of 8 bytes, a row takes 18 bytes (IPv4) or 33
// (IPv6), the index included.
type Table[T any] struct {
	v4 family4[T]
	v6 family6[T]
}

type family4[T any] struct {
	rows  []row4[T] // the array behind them has ahead more, which start at the last address
	shift uint8     // the index is over the bits of an address above these
	index []uint32  // the first row of each leading part, and then the number of rows
}

type row4[T any] struct {
	start uint32
	// nest is the length of the prefix (6 bits) and, above it, 1 + the number of
	// the smallest row around this one; 0 if there is none.
	nest  uint32
	value T
}

type family6[T any] struct {
	uppers []uint64 // the upper halves of the rows' first addresses
	rows   []row6[T]
	widest uint8    // the length of the widest prefix, at most 64
	groups []group6 // nil if there is no index
	index  []uint32 // of each group, the first row of each leading part
}

type row6[T any] struct {
	lower  uint64 // half of its first address
	around uint32 // 1 + the number of the smallest row around this one; 0 if there is none
	bits   uint8  // the length of the prefix
	value  T
}

// group6 are the rows that share their first 16 bits, of which those that are in
// use are few and unevenly filled. The index of each group is over the bits
// in which its rows differ.
type group6 struct {
	first uint32 // bits 16 to 48 of the group's first start
	// place is where the group begins in the index (26 bits) and, above it, the
	// number of bits of 32 that are below the leading part.
	place uint32
}

func (g group6) base() uint32 { return g.place & (1<<26 - 1) }

// middle returns the bits 16 to 48 of the upper half of an address.
func middle(hi uint64) uint32 { return uint32(hi >> 16) }

// uint128 is an IPv6 address.
type uint128 struct{ hi, lo uint64 }

func parts(b [16]byte) uint128 {
	return uint128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// NewTable returns a table of the given rows. Of several rows with one prefix,
// the last counts. Prefixes are masked; a prefix of IPv4-mapped addresses or of
// the NAT64 prefix 64:ff9b::/96 counts as the IPv4 prefix that it wraps. An
// invalid prefix, and more than [MaxRows] rows, are an error.
func NewTable[T any](rows iter.Seq2[netip.Prefix, T]) (*Table[T], error) {
	return newTable(rows, 0)
}

// newTable is NewTable of about n rows.
func newTable[T any](rows iter.Seq2[netip.Prefix, T], n int) (*Table[T], error) {
	keys4, values := make([]uint64, 0, n), make([]T, 0, n)
	var keys6 []key6
	for prefix, value := range rows {
		i := len(values)
		switch {
		case !prefix.IsValid():
			return nil, fmt.Errorf("feed: row %d has an invalid prefix; make it with netip.PrefixFrom or netip.ParsePrefix", i+1)
		case i == MaxRows:
			return nil, fmt.Errorf("feed: a table holds at most %d rows", MaxRows)
		}
		values = append(values, value)
		if p := provider.CanonicalPrefix(prefix); p.Addr().Is4() {
			b := p.Addr().As4()
			keys4 = append(keys4, uint64(binary.BigEndian.Uint32(b[:]))<<32|uint64(p.Bits())<<26|uint64(i))
		} else {
			keys6 = append(keys6, key6{parts(p.Addr().As16()), uint32(i), uint8(p.Bits())})
		}
	}
	t := new(Table[T])
	t.v4.build(keys4, values)
	t.v6.build(keys6, values)
	return t, nil
}

// key6 orders IPv6 rows by start, length and number.
type key6 struct {
	start  uint128
	number uint32
	bits   uint8
}

// build sorts the rows, whose keys are start (32 bits), length (6) and number
// (26).
func (f *family4[T]) build(keys []uint64, values []T) {
	if len(keys) == 0 {
		return
	}
	slices.Sort(keys)
	n := 0
	for i, k := range keys {
		if i+1 == len(keys) || k>>26 != keys[i+1]>>26 { // the last row of this prefix
			keys[n] = k
			n++
		}
	}
	f.rows = make([]row4[T], 0, n+ahead)
	for _, k := range keys[:n] {
		start := uint32(k >> 32)
		f.rows = append(f.rows, row4[T]{start, f.around(uint32(len(f.rows)), start)<<6 | uint32(k>>26&63), values[k&(1<<26-1)]})
	}
	for i := range ahead {
		f.rows[:n+ahead][n+i].start = math.MaxUint32
	}
	lead := min(bits.Len(uint(n))-1, 20)
	f.shift = uint8(32 - lead)
	f.index = make([]uint32, 1<<lead+1)
	row := 0
	for part := range f.index {
		for row < n && int(f.rows[row].start>>f.shift) < part {
			row++
		}
		f.index[part] = uint32(row)
	}
}

// ahead is the number of rows that a lookup compares at the end of its search, all of
// them and without a branch. The processor often predicts a branch of the search wrongly,
// and then begins no other lookup before the row has come from memory.
const ahead = 4

// notAfter returns 1 if start is not after addr, and otherwise 0, without a branch.
func notAfter(start, addr uint32) uint32 {
	return uint32((uint64(start) - uint64(addr) - 1) >> 63)
}

func (r *row4[T]) contains(addr uint32) bool {
	return uint64(addr^r.start)>>(32-r.nest&63) == 0
}

// around returns row if the row before it contains addr, and otherwise the number
// plus 1 of the smallest row around that which does.
func (f *family4[T]) around(row, addr uint32) uint32 {
	for row > 0 && !f.rows[row-1].contains(addr) {
		row = f.rows[row-1].nest >> 6
	}
	return row
}

// lookup returns the number plus 1 of the smallest row that contains addr, 0 if
// none does.
func (f *family4[T]) lookup(addr uint32) uint32 {
	if len(f.index) == 0 {
		return 0
	}
	part := addr >> f.shift
	low, high := f.index[part], f.index[part+1] // the first row after addr is from low to high
	for high-low > ahead {
		if mid := (low + high) / 2; f.rows[mid].start <= addr {
			low = mid + 1
		} else {
			high = mid
		}
	}
	r := f.rows[low : low+ahead] // those from high on start after addr, or at the last address
	low += notAfter(r[0].start, addr) + notAfter(r[1].start, addr) + notAfter(r[2].start, addr) + notAfter(r[3].start, addr)
	return f.around(min(low, high), addr)
}

// The groups of family6: one for each first 16 bits within 2000::/3, one before
// and one after.
const groups6 = 0x2000 + 2

func groupOf(hi uint64) int { // as a function of hi it never falls
	return int(min(max(hi>>48, 0x1fff), 0x4000) - 0x1fff)
}

// small6 is the number of rows up to which a family6 has no index.
const small6 = 256

func (f *family6[T]) build(keys []key6, values []T) {
	if len(keys) == 0 {
		return
	}
	slices.SortFunc(keys, func(a, b key6) int {
		return cmp.Or(
			cmp.Compare(a.start.hi, b.start.hi), cmp.Compare(a.start.lo, b.start.lo),
			cmp.Compare(a.bits, b.bits), cmp.Compare(a.number, b.number),
		)
	})
	n := 0
	for i, k := range keys {
		if i+1 == len(keys) || k.start != keys[i+1].start || k.bits != keys[i+1].bits {
			keys[n] = k
			n++
		}
	}
	f.rows, f.uppers, f.widest = make([]row6[T], 0, n), make([]uint64, 0, n), 64
	for _, k := range keys[:n] {
		around := f.around(uint32(len(f.rows)), k.start)
		f.uppers = append(f.uppers, k.start.hi)
		f.rows = append(f.rows, row6[T]{k.start.lo, around, k.bits, values[k.number]})
		f.widest = min(f.widest, k.bits)
	}
	if n > small6 {
		f.buildIndex()
	}
}

// perPlace is about how many rows an index has a place for: so many that the
// index stays in the processor's cache, and so few that their upper halves fill
// a line of it.
const perPlace = 8

// buildIndex makes the index.
func (f *family6[T]) buildIndex() {
	f.groups = make([]group6, groups6+1)
	row, n := 0, len(f.rows)
	for number := range groups6 {
		from := row
		for row < n && groupOf(f.uppers[row]) == number {
			row++
		}
		g := group6{place: uint32(len(f.index))}
		if number == 0 || number == groups6-1 || from == row { // not sorted by their middle bits, or none
			g.first = math.MaxUint32
			f.groups[number] = g
			f.index = append(f.index, uint32(from))
			continue
		}
		g.first = middle(f.uppers[from])
		spread := middle(f.uppers[row-1]) - g.first
		shift := max(bits.Len32(spread)-bits.Len(uint(row-from)/perPlace), 0)
		g.place |= uint32(shift) << 26
		f.groups[number] = g
		at := from
		for part := range spread>>shift + 1 {
			for at < row && (middle(f.uppers[at])-g.first)>>shift < part {
				at++
			}
			f.index = append(f.index, uint32(at))
		}
	}
	f.groups[groups6].place = uint32(len(f.index))
	f.index = slices.Clone(append(f.index, uint32(n))) // without room for more
}

func (f *family6[T]) contains(row uint32, addr uint128) bool {
	differ, length := addr.hi^f.uppers[row], f.rows[row].bits
	if length <= 64 {
		return differ>>(64-length) == 0
	}
	return differ == 0 && (addr.lo^f.rows[row].lower)>>(128-length) == 0
}

func (f *family6[T]) around(row uint32, addr uint128) uint32 {
	for row > 0 && !f.contains(row-1, addr) {
		row = f.rows[row-1].around
	}
	return row
}

func (f *family6[T]) lookup(addr uint128) uint32 {
	low, high := uint32(0), uint32(len(f.rows)) // the first row after addr is from low to high
	if f.groups != nil {
		number := groupOf(addr.hi)
		g, next := f.groups[number], f.groups[number+1].base()
		part := g.base()
		if m := middle(addr.hi); m > g.first {
			part += min((m-g.first)>>(g.place>>26), next-1-part)
		}
		low, high = f.index[part], f.index[part+1]
	}
	for low < high {
		mid := (low + high) / 2
		if upper := f.uppers[mid]; upper > addr.hi || upper == addr.hi && f.rows[mid].lower > addr.lo {
			high = mid
		} else {
			low = mid + 1
		}
	}
	// A row that contains addr also contains the last start up to addr.
	if low == 0 || (addr.hi^f.uppers[low-1])>>(64-f.widest) != 0 {
		return 0
	}
	return f.around(low, addr)
}

// Lookup returns the value of the most specific row that contains addr, and
// whether there is one. An IPv4-mapped address, and one of the NAT64 prefix
// 64:ff9b::/96, is looked up as the IPv4 address that it wraps; a zone is
// ignored. No row contains the zero Addr. Lookup allocates nothing.
func (t *Table[T]) Lookup(addr netip.Addr) (value T, found bool) {
	switch v4, v6 := t.find(addr); {
	case v4 > 0:
		return t.v4.rows[v4-1].value, true
	case v6 > 0:
		return t.v6.rows[v6-1].value, true
	}
	return value, false
}

// Find is Lookup that also returns the prefix of the row; the zero Prefix if there
// is none.
func (t *Table[T]) Find(addr netip.Addr) (prefix netip.Prefix, value T, found bool) {
	switch v4, v6 := t.find(addr); {
	case v4 > 0:
		r := &t.v4.rows[v4-1]
		return r.prefix(), r.value, true
	case v6 > 0:
		return t.v6.prefix(int(v6 - 1)), t.v6.rows[v6-1].value, true
	}
	return netip.Prefix{}, value, false
}

// Containing returns all rows that contain addr, the most specific first.
func (t *Table[T]) Containing(addr netip.Addr) iter.Seq2[netip.Prefix, T] {
	return func(yield func(netip.Prefix, T) bool) {
		v4, v6 := t.find(addr)
		for v4 > 0 {
			r := &t.v4.rows[v4-1]
			if !yield(r.prefix(), r.value) {
				return
			}
			v4 = r.nest >> 6
		}
		for v6 > 0 {
			r := &t.v6.rows[v6-1]
			if !yield(t.v6.prefix(int(v6-1)), r.value) {
				return
			}
			v6 = r.around
		}
	}
}

// find returns the number plus 1 of the smallest row that contains addr, in the
// one or the other family; both are 0 if there is none.
func (t *Table[T]) find(addr netip.Addr) (v4, v6 uint32) {
	if t == nil {
		return 0, 0
	}
	if addr.Is4() {
		b := addr.As4()
		return t.v4.lookup(binary.BigEndian.Uint32(b[:])), 0
	}
	if !addr.IsValid() {
		return 0, 0
	}
	a := parts(addr.As16())
	if a.hi == 0 && a.lo>>32 == 0xffff || a.hi == 0x64_ff9b<<32 && a.lo>>32 == 0 {
		return t.v4.lookup(uint32(a.lo)), 0
	}
	return 0, t.v6.lookup(a)
}

// Len returns the number of rows, of which those with one prefix count once.
func (t *Table[T]) Len() int {
	if t == nil {
		return 0
	}
	return len(t.v4.rows) + len(t.v6.rows)
}

// All returns the rows: IPv4 before IPv6, in order of their first address, and
// wider prefixes before those within them.
func (t *Table[T]) All() iter.Seq2[netip.Prefix, T] {
	return func(yield func(netip.Prefix, T) bool) {
		if t == nil {
			return
		}
		for i := range t.v4.rows {
			if !yield(t.v4.rows[i].prefix(), t.v4.rows[i].value) {
				return
			}
		}
		for i := range t.v6.rows {
			if !yield(t.v6.prefix(i), t.v6.rows[i].value) {
				return
			}
		}
	}
}

func (r *row4[T]) prefix() netip.Prefix {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], r.start)
	return netip.PrefixFrom(netip.AddrFrom4(b), int(r.nest&63))
}

func (f *family6[T]) prefix(row int) netip.Prefix {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], f.uppers[row])
	binary.BigEndian.PutUint64(b[8:], f.rows[row].lower)
	return netip.PrefixFrom(netip.AddrFrom16(b), int(f.rows[row].bits))
}
