package store

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/provider"
)

// attackerSpace is the name space of the UUIDs that AttackerID returns. It never
// changes.
var attackerSpace = uuid.MustParse("84570a03-12e9-5a90-a7c1-5ba9ed2a5954")

// AttackerID returns the UUID of the attacker with the given address, for
// programs whose attackers have no UUID of their own: version 5 of a fixed name
// space and the text of the canonical address. It is the same in every process,
// on every machine and in every version. All forms of one address, such as
// 192.0.2.1 and ::ffff:192.0.2.1, give the same UUID. The zero Addr gives
// [uuid.Nil], which no store accepts.
func AttackerID(addr netip.Addr) uuid.UUID {
	if !addr.IsValid() {
		return uuid.Nil
	}
	return uuid.NewSHA1(attackerSpace, []byte(provider.Canonical(addr).String()))
}

// EventID returns the ID of the event that announces a revision of an attacker's
// record: a UUID, version 5 of the attacker's UUID, the revision and the time of
// the save, as 32 hexadecimal digits. The time counts in microseconds and UTC, as
// stores keep it. The ID does not depend on how often the event is published, and
// differs for a record that reaches the same revision again after all was
// removed.
func EventID(attacker uuid.UUID, revision uint64, savedAt time.Time) string {
	name := strconv.AppendUint(append(make([]byte, 0, 64), "intel.enriched/"...), revision, 10)
	name = strconv.AppendInt(append(name, '/'), savedAt.UnixMicro(), 10)
	id := uuid.NewSHA1(attacker, name)
	return hex.EncodeToString(id[:])
}
