package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// tx is a transaction. It has a connection of its own, on which it begins and
// ends by statements, because database/sql has no way to begin one in SQLite
// that writes.
type tx struct {
	ctx   context.Context
	s     *Store
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // of a local database
	clock int64                // the store's, in microseconds, when the transaction began; 0 if it only reads
	bare  bool                 // raw answers are not stored, because the database has refused them
}

// write runs f in a transaction that may write. If it fails for a reason that
// passes it runs f again, so f must set all it returns anew.
func (s *Store) write(ctx context.Context, f func(*tx) error) error {
	return s.retry(ctx, func() error { return s.attempt(ctx, s.d.begin, f) })
}

// read runs f in a transaction that sees one state of the database. It may run
// it again, as write does.
func (s *Store) read(ctx context.Context, f func(*tx) error) error {
	return s.retry(ctx, func() error { return s.attempt(ctx, s.d.view, f) })
}

// errClosed is what a database returns once it is closed. Package sql has it and
// does not export it.
var errClosed = func() error {
	db := sql.OpenDB(nil)
	_ = db.Close() // it has no connections
	_, err := db.Conn(context.Background())
	return err
}()

// attempt runs f in a transaction once.
func (s *Store) attempt(ctx context.Context, begin []string, f func(*tx) error) (err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		closed := errors.Is(err, errClosed)
		err = s.failed("connect to the database", err)
		if !s.d.local && !closed { // with a code of the database it is what the code says
			err = &lostError{err}
		}
		return err
	}
	defer conn.Close()
	t := &tx{ctx: ctx, s: s, conn: conn}
	for i, text := range begin {
		if _, err := conn.ExecContext(ctx, text); err != nil {
			if ctx.Err() != nil || i > 0 {
				discard(conn) // it may have begun all the same
			}
			err = s.failed("begin a transaction", err)
			if !s.d.local { // with a code of the database it is what the code says
				err = &lostError{err}
			}
			return err
		}
	}
	if s.d.local {
		t.ctx = context.WithoutCancel(ctx)
	}
	committed := false
	defer func() {
		t.close()
		if !committed && !t.rollBack(ctx) {
			discard(conn)
			err = &lostError{err}
		}
	}()
	if &begin[0] == &s.d.begin[0] {
		if err := t.readClock(); err != nil {
			return err
		}
	}
	if err := f(t); err != nil {
		return err
	}
	if _, err := conn.ExecContext(t.ctx, "COMMIT"); err != nil {
		return s.failed("commit", err)
	}
	committed = true
	return nil
}

// rollBack ends the transaction and reports whether the connection is still
// usable.
func (t *tx) rollBack(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err := t.conn.ExecContext(ctx, "ROLLBACK")
	return err == nil
}

// readClock sets t.clock. Several machines that share a database go by its
// clock.
func (t *tx) readClock() error {
	if t.s.now != nil || t.s.d.clock == "" {
		t.clock = t.s.localTime().UnixMicro()
		return nil
	}
	_, err := t.one("read the clock", t.s.d.clock, nil, &t.clock)
	return err
}

// discard closes a connection in an unknown state instead of returning it to
// the pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // that is what it returns
}

// exec runs a statement. The purpose goes into the error.
func (t *tx) exec(purpose, text string, args ...any) error {
	_, err := t.changed(purpose, text, args...)
	return err
}

// changed is exec and returns the number of rows affected. MySQL may count rows
// that are set to what they were, or not.
func (t *tx) changed(purpose, text string, args ...any) (int, error) {
	var res sql.Result
	var err error
	if t.s.d.local {
		var stmt *sql.Stmt
		if stmt, err = t.prepare(text); err == nil {
			res, err = stmt.ExecContext(t.ctx, args...)
		}
	} else {
		res, err = t.conn.ExecContext(t.ctx, t.s.placed(text), args...)
	}
	if err != nil {
		return 0, t.s.statementFailed(purpose, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, t.s.statementFailed(purpose, err)
	}
	return int(n), nil
}

// query runs a query and calls each for every row. The function each must not
// use t.
func (t *tx) query(purpose, text string, args []any, each func(scan func(dest ...any) error) error) error {
	var rows *sql.Rows
	var err error
	if t.s.d.local {
		var stmt *sql.Stmt
		if stmt, err = t.prepare(text); err == nil {
			rows, err = stmt.QueryContext(t.ctx, args...)
		}
	} else {
		rows, err = t.conn.QueryContext(t.ctx, t.s.placed(text), args...)
	}
	if err != nil {
		return t.s.statementFailed(purpose, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return t.s.statementFailed(purpose, err)
		}
	}
	if err := rows.Err(); err != nil {
		return t.s.statementFailed(purpose, err)
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

const (
	// maxParams is the greatest number of values looked for in one statement.
	maxParams = 512
	// maxBytes is about how many bytes of values one statement adds at most,
	// unless a single row has more: databases limit the size of a statement.
	maxBytes = 1 << 20
)

// insert adds rows by statements that add several at a time. The head is the
// statement up to VALUES, values one row's list in parentheses, tail what
// follows the last row.
func (t *tx) insert(purpose, head, values, tail string, rows [][]any) error {
	for len(rows) > 0 {
		n, size := 0, 0
		for n < min(len(rows), t.s.d.rows) {
			if size += sizeOf(rows[n]); n > 0 && size > maxBytes {
				break
			}
			n++
		}
		for n&(n-1) != 0 { // powers of two, for there to be few different statements
			n &= n - 1
		}
		args := make([]any, 0, n*len(rows[0]))
		for _, row := range rows[:n] {
			args = append(args, row...)
		}
		if err := t.exec(purpose, head+" VALUES "+repeated(values, n)+tail, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func sizeOf(row []any) (size int) {
	for _, v := range row {
		switch v := v.(type) {
		case string:
			size += len(v)
		case []byte:
			size += len(v)
		}
	}
	return size
}

// repeated returns the text n times, separated by commas.
func repeated(text string, n int) string {
	return strings.Repeat(text+", ", n-1) + text
}

// params returns n placeholders in parentheses.
func params(n int) string {
	return "(" + repeated("?", n) + ")"
}

// in returns a list of placeholders in parentheses for at least the given
// texts, and the arguments for it. Its length is a power of two, for there to be
// few different statements.
func in(list []string) (text string, args []any) {
	n := 1
	for n < len(list) {
		n *= 2
	}
	args = make([]any, n)
	for i := range args {
		args[i] = list[min(i, len(list)-1)]
	}
	return params(n), args
}

// placed returns a statement with the placeholders that the database wants.
func (s *Store) placed(text string) string {
	if !s.d.numbered {
		return text
	}
	if placed, ok := s.texts.Load(text); ok {
		return placed.(string)
	}
	var b strings.Builder
	n := 0
	for i := range len(text) {
		if text[i] != '?' {
			b.WriteByte(text[i])
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	placed := b.String()
	s.texts.Store(text, placed)
	return placed
}

// limit ends a query. The number is part of the text, so that the database sees
// that the limit is low when it decides how to go about it.
func limit(n int) string { return fmt.Sprintf(" LIMIT %d", n) }
