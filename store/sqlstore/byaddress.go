package sqlstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/decnet/enrich/internal/netset"
	"github.com/decnet/enrich/provider"
)

// maxPatterns is how many beginnings of addresses stand for one network.
const maxPatterns = 16

// patternsAtOnce is how many of them one statement looks for.
const patternsAtOnce = 100

// manyNetworks is how many networks take longer to be looked for than every attacker
// takes to be looked at.
const manyNetworks = 20_000

// ByAddress implements [store.ByAddress]. Addresses are stored as text: single
// ones are looked for as they are, networks by what the text of their addresses
// begins with. An attacker whose address is spelled in another way than ours has a row
// in enrich_address with our spelling.
func (s *Store) ByAddress(ctx context.Context, networks []netip.Prefix) ([]uuid.UUID, error) {
	var all map[uuid.UUID]int64 // when they were last seen
	set := netset.Of(networks)
	err := s.read(ctx, func(t *tx) error {
		all = make(map[uuid.UUID]int64)
		look := func(from, condition string, args []any) error {
			return t.query("look for attackers by address", "SELECT l.attacker_uuid, l.ip, l.last_seen FROM "+from+condition, args,
				func(scan func(...any) error) error {
					var (
						id, ip string
						seen   int64
					)
					if err := scan(&id, &ip, &seen); err != nil {
						return err
					}
					addr, err := provider.ParseAddr(ip)
					if err != nil || !set.Contains(addr) {
						return nil
					}
					if parsed, ok := parseUUID(id); ok {
						all[parsed] = seen
					}
					return nil
				})
		}
		if len(networks) > manyNetworks {
			return look("enrich_ledger l", "", nil)
		}
		return t.addressConditions(networks, func(condition string, args []any) error {
			if err := look("enrich_ledger l WHERE ", strings.ReplaceAll(condition, "@", "l.ip"), args); err != nil {
				return err
			}
			return look("enrich_address a JOIN enrich_ledger l ON l.attacker_uuid = a.attacker_uuid WHERE ",
				strings.ReplaceAll(condition, "@", "a.addr"), args)
		})
	})
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b uuid.UUID) int {
		return cmp.Or(cmp.Compare(all[b], all[a]), bytes.Compare(a[:], b[:]))
	}), nil
}

// addressConditions calls f with the conditions that hold for the column @ if its text
// may be an address in one of the networks.
func (t *tx) addressConditions(networks []netip.Prefix, f func(condition string, args []any) error) error {
	texts, beginnings := addressTexts(networks)
	for chunk := range slices.Chunk(texts, maxParams) {
		among, args := t.among(chunk)
		if err := f("@ "+among, args); err != nil {
			return err
		}
	}
	for chunk := range slices.Chunk(beginnings, patternsAtOnce) {
		args := make([]any, patternsAtOnce)
		for i := range args {
			args[i] = chunk[min(i, len(chunk)-1)] + t.s.d.rest
		}
		one := "@ " + t.s.d.like + " ?"
		if err := f(one+strings.Repeat(" OR "+one, patternsAtOnce-1), args); err != nil {
			return err
		}
	}
	return nil
}

// addressTexts returns what the texts of addresses in the networks are, or begin
// with.
func addressTexts(networks []netip.Prefix) (texts, beginnings []string) {
	for _, p := range networks {
		p = provider.CanonicalPrefix(p)
		switch {
		case !p.IsValid():
		case p.IsSingleIP():
			texts = append(texts, p.Addr().String())
		case p.Addr().Is4():
			beginnings = appendBeginnings4(beginnings, p)
		default:
			beginnings = append(beginnings, beginning6(p))
		}
	}
	for _, list := range []*[]string{&texts, &beginnings} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return texts, beginnings
}

// appendBeginnings4 appends what the texts of a network's addresses begin with:
// some whole bytes of theirs. They may be those of a wider network.
func appendBeginnings4(list []string, p netip.Prefix) []string {
	whole := min((p.Bits()+7)/8, 3)
	if n := whole*8 - p.Bits(); n > 0 && 1<<n > maxPatterns {
		whole--
	}
	first := p.Addr().As4()
	start, step := binary.BigEndian.Uint32(first[:]), uint32(1)<<(32-whole*8)
	for i := range 1 << max(whole*8-p.Bits(), 0) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], start+uint32(i)*step)
		var text []byte
		for _, c := range b[:whole] {
			text = append(strconv.AppendUint(text, uint64(c), 10), '.')
		}
		list = append(list, string(text))
	}
	return list
}

// beginning6 returns what the texts of a network's addresses begin with: the whole
// groups of 16 bits before the first that is zero, as zeros may be left out.
func beginning6(p netip.Prefix) string {
	b := p.Addr().As16()
	var text []byte
	for i := 0; i+16 <= p.Bits(); i += 16 {
		group := binary.BigEndian.Uint16(b[i/8:])
		if group == 0 {
			break
		}
		text = append(strconv.AppendUint(text, uint64(group), 16), ':')
	}
	return string(text)
}
