package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
)

var (
	// ErrNotFound: there is no attacker with this UUID.
	ErrNotFound = errors.New("attacker not found")
	// ErrConflict: the lease was lost before the update arrived.
	ErrConflict = errors.New("lease lost")
	// ErrInvalid: the request itself makes no sense.
	ErrInvalid = errors.New("invalid request")
	// ErrSchema: the tables are not of a version this program can use.
	ErrSchema = errors.New("unusable schema")
)

// SaveError is returned by [Store.Save] when some of the updates of a call were
// not stored. The updates of every attacker that it does not name were.
type SaveError struct {
	// Failed has the reason for each attacker of which an update was not stored;
	// it wraps [ErrConflict] if the lease was lost. It is never empty.
	Failed map[uuid.UUID]error
}

// Error names the attacker and the reason. Of several failures it has the
// number, and the one with the lowest ID.
func (e *SaveError) Error() string {
	ids := e.ids()
	if len(ids) == 0 {
		return "no update failed"
	}
	text := fmt.Sprintf("attacker %s: %v", ids[0], e.Failed[ids[0]])
	if len(ids) > 1 {
		text = fmt.Sprintf("%d updates failed, the first of %s", len(ids), text)
	}
	return text
}

// Unwrap returns the reasons in order of attacker ID.
func (e *SaveError) Unwrap() []error {
	ids := e.ids()
	errs := make([]error, len(ids))
	for i, id := range ids {
		errs[i] = e.Failed[id]
	}
	return errs
}

func (e *SaveError) ids() []uuid.UUID {
	return slices.SortedFunc(maps.Keys(e.Failed), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
}

// Validate returns an error that wraps [ErrInvalid] if the request is missing
// something.
func (r *ClaimRequest) Validate() error {
	switch {
	case r.Owner == "":
		return fmt.Errorf("%w: claim without an owner", ErrInvalid)
	case r.Lease <= 0:
		return fmt.Errorf("%w: claim with a lease of %v", ErrInvalid, r.Lease)
	case r.Limit <= 0:
		return fmt.Errorf("%w: claim with a limit of %d", ErrInvalid, r.Limit)
	case r.Now.IsZero():
		return fmt.Errorf("%w: claim without a time", ErrInvalid)
	}
	return nil
}
