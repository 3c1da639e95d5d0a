package store

import (
	"errors"
	"fmt"

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

// UpdateError is the failure of one update in a call of [Store.Save].
type UpdateError struct {
	// ID is the attacker whose update was not stored.
	ID uuid.UUID
	// Err is the reason; it wraps [ErrConflict] if the lease was lost.
	Err error
}

// Error names the attacker and the reason.
func (e *UpdateError) Error() string {
	return fmt.Sprintf("attacker %s: %v", e.ID, e.Err)
}

// Unwrap returns e.Err.
func (e *UpdateError) Unwrap() error { return e.Err }

// UpdateErrors takes apart an error returned by [Store.Save]: the updates that
// were not stored, and an error that concerns the whole call, either of which
// may be empty. It looks through errors wrapped around them.
func UpdateErrors(err error) (failed []*UpdateError, whole error) {
	first, ok := errors.AsType[*UpdateError](err)
	if !ok {
		return nil, err
	}
	switch e := err.(type) {
	case *UpdateError:
		return []*UpdateError{e}, nil
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			f, w := UpdateErrors(err)
			failed, whole = append(failed, f...), errors.Join(whole, w)
		}
		return failed, whole
	case interface{ Unwrap() error }:
		return UpdateErrors(e.Unwrap())
	}
	return []*UpdateError{first}, nil
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
