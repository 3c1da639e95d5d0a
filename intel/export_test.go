package intel

import (
	"sync"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

// eventIDs are the IDs of the events of all saves that tests have seen, by
// attacker and revision.
var eventIDs sync.Map

type savedRevision struct {
	attacker uuid.UUID
	revision uint64
}

// RememberEvent takes note of a save, for EventID.
func RememberEvent(info SavedInfo) {
	if r := &info.Record; len(info.Answered) > 0 {
		eventIDs.Store(savedRevision{r.ID, r.Revision}, store.EventID(r.ID, r.Revision, r.CachedAt))
	}
}

// EventID returns the ID of the event that announced a revision of an attacker's
// record when it was last saved, and "" if it was not.
func EventID(attacker uuid.UUID, revision uint64) string {
	id, _ := eventIDs.Load(savedRevision{attacker, revision})
	text, _ := id.(string)
	return text
}
