package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strconv"
	"time"

	"github.com/decnet/enrich/internal/backoff"
)

const (
	// outage is how long a method goes on trying to reach a database that is
	// gone.
	outage = 30 * time.Second
	// races is how often something is tried that another transaction seems to
	// have come in the way of.
	races = 3
)

// retry runs f, and runs it again as long as it fails for a reason that passes.
func (s *Store) retry(ctx context.Context, f func() error) error {
	var gone time.Time // since when the database is gone
	raced := 0
	for failures := 1; ; failures++ {
		err := f()
		if err == nil {
			return nil
		}
		longest := time.Second
		switch s.classify(err) {
		case busy:
			gone, longest = time.Time{}, 100*time.Millisecond
		case lost:
			if gone.IsZero() {
				gone = time.Now()
			}
			if ctx.Err() != nil || time.Since(gone) > outage {
				return err
			}
		case race:
			if raced++; raced == races {
				return err
			}
		default:
			return err
		}
		timer := time.NewTimer(backoff.Delay(time.Millisecond, longest, failures))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("sqlstore: the database stayed busy or away: %w; last: %w", ctx.Err(), err)
		}
	}
}

// classify says what to do about an error.
func (s *Store) classify(err error) class {
	if code, ok := s.code(err); ok {
		return s.d.class(code)
	}
	if _, ok := errors.AsType[*lostError](err); ok {
		return lost
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return lost
	}
	for _, e := range []error{driver.ErrBadConn, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed} {
		if errors.Is(err, e) {
			return lost
		}
	}
	if r, ok := errors.AsType[*refusal](err); ok && r.byDriver {
		return poison
	}
	return fatal
}

// poisonous reports whether an error is due to the values of a statement.
func (s *Store) poisonous(err error) bool {
	c := s.classify(err)
	return c == poison || c == race
}

// lostError is a failure after which the connection was found to be lost.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

// statementFailed is failed for what happens while a statement runs or its rows
// are read. An error that comes neither from the database nor from the way to it
// comes from a driver that cannot convert a value, and quotes it.
func (s *Store) statementFailed(purpose string, err error) error {
	if _, ok := s.code(err); ok || harmless(err) {
		return s.failed(purpose, err)
	}
	return &refusal{fmt.Sprintf("sqlstore: %s: the driver fails with an error (%T) whose text may quote values", purpose, err), err, true}
}

// harmless reports whether an error is about connections or contexts.
func harmless(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, e := range []error{
		context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// failed returns the error with its purpose. The driver's own text is left out
// if it may quote values; the driver's error is wrapped in any case.
func (s *Store) failed(purpose string, err error) error {
	if code, ok := s.code(err); ok && s.d.quotes(code) {
		return &refusal{fmt.Sprintf("sqlstore: %s: %s refuses it with code %s", purpose, s.d.title, code), err, false}
	}
	return fmt.Errorf("sqlstore: %s: %w", purpose, err)
}

// refusal is an error whose text says nothing about values.
type refusal struct {
	text     string
	err      error
	byDriver bool // the database was not asked, or its answer not understood
}

func (e *refusal) Error() string { return e.text }

func (e *refusal) Unwrap() error { return e.err }

// code is the default of Options.Code.
func code(err error) (string, bool) {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok { // PostgreSQL: github.com/jackc/pgx, github.com/lib/pq
		return e.SQLState(), true
	}
	if e, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok { // SQLite: modernc.org/sqlite
		return strconv.Itoa(e.Code()), true
	}
	for ; err != nil; err = errors.Unwrap(err) { // MySQL: github.com/go-sql-driver/mysql
		v := reflect.ValueOf(err)
		if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
			continue
		}
		if n := v.Elem().FieldByName("Number"); n.IsValid() && n.Kind() == reflect.Uint16 {
			return strconv.FormatUint(n.Uint(), 10), true
		}
	}
	return "", false
}
