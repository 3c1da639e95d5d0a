package sqlstore

import (
	"database/sql"
	"slices"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// addresses returns the texts of the addresses that entries are about. It is
// nearly always one.
func addresses(entries []store.Entry) []string {
	var texts []string
	for i := range entries {
		if text := aboutOf(&entries[i]).addr; text != "" && !slices.Contains(texts, text) {
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

// moreAddresses stores the addresses but the first, and that of an attacker whose text
// is not the one that addresses are looked for by; see ByAddress.
func (t *tx) moreAddresses(r *schedule, was, is []store.Entry) error {
	if len(addresses(was)) > 1 {
		err := t.exec("remove addresses", "DELETE FROM enrich_address WHERE attacker_uuid = ?", r.uuid)
		if err != nil {
			return err
		}
	}
	var rows [][]any
	if texts := addresses(is); len(texts) > 1 {
		for _, text := range texts[1:] {
			rows = append(rows, []any{text, r.uuid})
		}
	}
	return t.insertAddresses(append(rows, unusual(r.uuid, r.ip)...))
}

func (t *tx) insertAddresses(rows [][]any) error {
	return t.insert("write addresses", "INSERT INTO enrich_address (addr, attacker_uuid)", params(2),
		t.s.d.upsert("addr, attacker_uuid", nil), rows)
}

// unusual returns the row of enrich_address for an attacker's address, and none if it
// is no address or spelled as we would.
func unusual(uuid, ip string) [][]any {
	addr, err := provider.ParseAddr(ip)
	if err != nil || addr.String() == ip {
		return nil
	}
	return [][]any{{addr.String(), uuid}}
}
