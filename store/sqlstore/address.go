package sqlstore

import (
	"database/sql"
	"slices"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// addresses returns the texts of the addresses that the findings are about. It
// is nearly always one.
func addresses(entries []store.Entry) []string {
	var texts []string
	for i := range entries {
		f := entries[i].Finding
		if f == nil || !f.Addr.IsValid() {
			continue
		}
		if text := provider.Canonical(f.Addr).String(); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return texts
}

// addrOf returns what the column addr holds: the first of the addresses, NULL if
// there is none.
func addrOf(entries []store.Entry) (addr sql.NullString) {
	if texts := addresses(entries); len(texts) > 0 {
		addr.String, addr.Valid = texts[0], true
	}
	return addr
}

// moreAddresses stores the addresses but the first.
func (t *tx) moreAddresses(uuid string, was, is []store.Entry) error {
	if len(addresses(was)) > 1 {
		err := t.exec("remove addresses", "DELETE FROM enrich_address WHERE attacker_uuid = ?", uuid)
		if err != nil {
			return err
		}
	}
	texts := addresses(is)
	for i := 1; i < len(texts); i++ {
		err := t.exec("write an address", "INSERT INTO enrich_address (addr, attacker_uuid) VALUES (?, ?)", texts[i], uuid)
		if err != nil {
			return err
		}
	}
	return nil
}

// sameIP reports whether two texts mean one address: they are equal, or both
// parse to the same.
func sameIP(a, b string) bool {
	if a == b {
		return true
	}
	x, err := provider.ParseAddr(a)
	if err != nil {
		return false
	}
	y, err := provider.ParseAddr(b)
	return err == nil && x == y
}
