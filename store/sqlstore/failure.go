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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/store"
)

const (
	// outage is how long a method goes on trying to reach a database that is
	// gone.
	outage = 30 * time.Second
	// races is how often something is tried that another transaction seems to
	// have come in the way of.
	races = 3
)

// retry runs f, and runs it again as long as it fails for a reason that passes. After
// it has waited in vain so many times for what another client has locked, the error
// wraps store.ErrLocked.
func (s *Store) retry(ctx context.Context, waits int, f func() error) error {
	var gone time.Time // since when the database is gone
	raced, waited := 0, 0
	for failures := 1; ; failures++ {
		err := f()
		if err == nil {
			return nil
		}
		longest := time.Second
		switch s.classify(err) {
		case locked:
			if waited++; waited == waits {
				return fmt.Errorf("%w for more than %v: %w", store.ErrLocked, time.Duration(waits)*time.Second, err)
			}
			fallthrough
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
	return &refusal{fmt.Sprintf("sqlstore: %s: the driver fails with an error that is not shown, because it may quote values", purpose), err, true}
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
	code, ok := s.code(err)
	if text := err.Error(); strings.Contains(text, "\n") {
		err = &refusal{text: distinctLines(text), err: err}
	}
	switch {
	case !ok:
	case s.d.quotes(code):
		return &refusal{fmt.Sprintf("sqlstore: %s: %s refuses it with code %s", purpose, s.d.title, code), err, false}
	case s.d.advice(code) != "":
		return fmt.Errorf("sqlstore: %s: %w; %s", purpose, err, s.d.advice(code))
	}
	return fmt.Errorf("sqlstore: %s: %w", purpose, err)
}

// connectFailed is failed for a connection that was refused. No values were sent, but
// the text may quote a parameter of the connection: it is given without what is in
// quotes.
func (s *Store) connectFailed(err error) error {
	const purpose = "connect to the database"
	if code, ok := s.code(err); ok && s.d.quotes(code) {
		return &refusal{fmt.Sprintf("sqlstore: %s: %s", purpose, quoted.ReplaceAllString(err.Error(), "$1…$1")), err, false}
	}
	return s.failed(purpose, err)
}

// distinctLines returns a text without lines that it had before: pgx says the same of
// each attempt, with TLS and without.
func distinctLines(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// quoted matches everything from the first quote to the last of its kind.
var quoted = regexp.MustCompile("(?s)(['\"`]).*['\"`]")

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
	return codeInside(err)
}

// codeInside is code for errors that have it in a type of the driver's own.
func codeInside(err error) (string, bool) {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if code, ok := codeInside(err); ok {
				return code, true
			}
		}
		return "", false
	case nil:
		return "", false
	}
	if v := reflect.ValueOf(err); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		// SQLite: github.com/ncruces/go-sqlite3
		if m := v.MethodByName("ExtendedCode"); m.IsValid() && m.Type().NumIn() == 0 && m.Type().NumOut() == 1 && m.Type().Out(0).Kind() == reflect.Uint16 {
			return strconv.FormatUint(m.Call(nil)[0].Uint(), 10), true
		}
		// MySQL: github.com/go-sql-driver/mysql
		if n := v.Elem().FieldByName("Number"); n.IsValid() && n.Kind() == reflect.Uint16 {
			return strconv.FormatUint(n.Uint(), 10), true
		}
	}
	return codeInside(errors.Unwrap(err))
}
