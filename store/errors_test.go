package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

func TestUpdateError(t *testing.T) {
	id := uuid.New()
	err := &store.UpdateError{ID: id, Err: fmt.Errorf("%w: fence 3", store.ErrConflict)}
	require.ErrorIs(t, err, store.ErrConflict)
	require.EqualError(t, err, "attacker "+id.String()+": lease lost: fence 3")
}

func TestUpdateErrors(t *testing.T) {
	a := &store.UpdateError{ID: uuid.New(), Err: store.ErrConflict}
	b := &store.UpdateError{ID: uuid.New(), Err: store.ErrInvalid}
	down, late := errors.New("database is down"), errors.New("too late")
	for what, test := range map[string]struct {
		err    error
		failed []*store.UpdateError
		whole  []error
	}{
		"nil":             {},
		"one":             {a, []*store.UpdateError{a}, nil},
		"wrapped":         {fmt.Errorf("save: %w", a), []*store.UpdateError{a}, nil},
		"joined":          {errors.Join(a, b), []*store.UpdateError{a, b}, nil},
		"joined by %w":    {fmt.Errorf("%w and %w", a, b), []*store.UpdateError{a, b}, nil},
		"joined twice":    {errors.Join(errors.Join(a), errors.Join(errors.Join(b))), []*store.UpdateError{a, b}, nil},
		"whole":           {down, nil, []error{down}},
		"wrapped whole":   {fmt.Errorf("save: %w", down), nil, []error{down}},
		"both":            {errors.Join(a, down, b, late), []*store.UpdateError{a, b}, []error{down, late}},
		"a bare sentinel": {store.ErrConflict, nil, []error{store.ErrConflict}},
	} {
		failed, whole := store.UpdateErrors(test.err)
		require.Equal(t, test.failed, failed, what)
		if test.whole == nil {
			require.NoError(t, whole, what)
		}
		for _, want := range test.whole {
			require.ErrorIs(t, whole, want, what)
		}
	}
}

func TestUpdateErrorsFindsAllBehindAWrapper(t *testing.T) {
	a := &store.UpdateError{ID: uuid.New(), Err: store.ErrConflict}
	b := &store.UpdateError{ID: uuid.New(), Err: store.ErrConflict}
	failed, whole := store.UpdateErrors(fmt.Errorf("save of 2 updates: %w", errors.Join(a, b)))
	require.NoError(t, whole)
	require.Equal(t, []*store.UpdateError{a, b}, failed)

	down := errors.New("database is down")
	failed, whole = store.UpdateErrors(fmt.Errorf("save of 2 updates: %w", errors.Join(a, down)))
	require.ErrorIs(t, whole, down, "an error of the whole call must not be mistaken for one of an update")
	require.Equal(t, []*store.UpdateError{a}, failed)
}

// disguised is an update's error in a type that only errors.As sees through.
type disguised struct{ ue *store.UpdateError }

func (d disguised) Error() string { return "disguised" }

func (d disguised) As(target any) bool {
	if p, ok := target.(**store.UpdateError); ok {
		*p = d.ue
		return true
	}
	return false
}

func TestUpdateErrorsAsksAs(t *testing.T) {
	a := &store.UpdateError{ID: uuid.New(), Err: store.ErrConflict}
	failed, whole := store.UpdateErrors(disguised{a})
	require.NoError(t, whole)
	require.Equal(t, []*store.UpdateError{a}, failed)
}

func TestClaimRequestValidate(t *testing.T) {
	good := store.ClaimRequest{Now: time.Now(), Owner: "worker", Lease: time.Minute, Limit: 1}
	require.NoError(t, good.Validate())
	for what, change := range map[string]func(r *store.ClaimRequest){
		"owner":          func(r *store.ClaimRequest) { r.Owner = "" },
		"lease of 0s":    func(r *store.ClaimRequest) { r.Lease = 0 },
		"lease of -1s":   func(r *store.ClaimRequest) { r.Lease = -time.Second },
		"limit of 0":     func(r *store.ClaimRequest) { r.Limit = 0 },
		"limit of -1":    func(r *store.ClaimRequest) { r.Limit = -1 },
		"without a time": func(r *store.ClaimRequest) { r.Now = time.Time{} },
	} {
		r := good
		change(&r)
		err := r.Validate()
		require.ErrorIs(t, err, store.ErrInvalid)
		require.ErrorContains(t, err, what)
	}
}
