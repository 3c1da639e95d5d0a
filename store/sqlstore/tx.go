package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// tx is a transaction. It has a connection of its own, on which it begins and
// ends by statements, because database/sql cannot begin one that writes.
type tx struct {
	ctx   context.Context
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	clock int64 // the store's, in microseconds, when the transaction began
}

// write runs f in a transaction that holds the write lock from its start. If the
// database is busy it runs f again, so f must set all it returns anew.
func (s *Store) write(ctx context.Context, f func(*tx) error) error {
	return s.transact(ctx, s.d.begin, f)
}

// read runs f in a transaction that sees one state of the database. It may run
// it again, as write does.
func (s *Store) read(ctx context.Context, f func(*tx) error) error {
	return s.transact(ctx, s.d.view, f)
}

func (s *Store) transact(ctx context.Context, begin string, f func(*tx) error) error {
	return s.retry(ctx, func() error { return s.attempt(ctx, begin, f) })
}

// retry runs f, and runs it again for as long as the database is busy.
func (s *Store) retry(ctx context.Context, f func() error) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := f()
		if err == nil || !s.busy(err) {
			return err
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("sqlstore: the database stayed busy: %w; last: %w", ctx.Err(), err)
		}
	}
}

// attempt runs f in a transaction once.
func (s *Store) attempt(ctx context.Context, begin string, f func(*tx) error) (err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: connect to the database: %w", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		if ctx.Err() != nil {
			discard(conn) // it may have begun all the same
		}
		return fmt.Errorf("sqlstore: begin a transaction: %w", err)
	}
	t := &tx{ctx: ctx, conn: conn, clock: s.now().UnixMicro()}
	if s.d.local {
		t.ctx = context.WithoutCancel(ctx)
	}
	committed := false
	defer func() {
		t.close()
		if !committed {
			if _, err := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
				discard(conn)
			}
		}
	}()
	if err := f(t); err != nil {
		return err
	}
	if _, err := conn.ExecContext(t.ctx, "COMMIT"); err != nil {
		return fmt.Errorf("sqlstore: commit: %w", err)
	}
	committed = true
	return nil
}

// discard closes a connection in an unknown state instead of returning it to
// the pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // that is what it returns
}

func (s *Store) busy(err error) bool {
	code, ok := s.code(err)
	return ok && s.d.busy(code)
}

func (s *Store) poisonous(err error) bool {
	code, ok := s.code(err)
	return ok && s.d.poison(code)
}

// exec runs a statement. The purpose goes into the error.
func (t *tx) exec(purpose, text string, args ...any) error {
	_, err := t.changed(purpose, text, args...)
	return err
}

// changed is exec and returns the number of rows affected.
func (t *tx) changed(purpose, text string, args ...any) (int, error) {
	stmt, err := t.prepare(text)
	if err != nil {
		return 0, failed(purpose, err)
	}
	res, err := stmt.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, failed(purpose, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, failed(purpose, err)
	}
	return int(n), nil
}

// query runs a query and calls each for every row.
func (t *tx) query(purpose, text string, args []any, each func(scan func(dest ...any) error) error) error {
	stmt, err := t.prepare(text)
	if err != nil {
		return failed(purpose, err)
	}
	rows, err := stmt.QueryContext(t.ctx, args...)
	if err != nil {
		return failed(purpose, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return failed(purpose, err)
		}
	}
	if err := rows.Err(); err != nil {
		return failed(purpose, err)
	}
	return nil
}

// one runs a query for a single row and reports whether there was one.
func (t *tx) one(purpose, text string, args []any, dest ...any) (found bool, err error) {
	err = t.query(purpose, text, args, func(scan func(...any) error) error {
		found = true
		return scan(dest...)
	})
	return found, err
}

// prepare returns the statement, prepared at its first use in the transaction.
func (t *tx) prepare(text string) (*sql.Stmt, error) {
	if stmt := t.stmts[text]; stmt != nil {
		return stmt, nil
	}
	stmt, err := t.conn.PrepareContext(t.ctx, text)
	if err != nil {
		return nil, err
	}
	if t.stmts == nil {
		t.stmts = make(map[string]*sql.Stmt)
	}
	t.stmts[text] = stmt
	return stmt, nil
}

func (t *tx) close() {
	for _, stmt := range t.stmts {
		_ = stmt.Close() // the connection ends it in any case
	}
}

func failed(purpose string, err error) error {
	return fmt.Errorf("sqlstore: %s: %w", purpose, err)
}

// maxParams is a number of parameters that every database takes in a statement.
const maxParams = 800

// params returns n placeholders in parentheses.
func params(n int) string {
	return "(" + strings.Repeat("?, ", n-1) + "?)"
}

// anys returns the strings as arguments.
func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
