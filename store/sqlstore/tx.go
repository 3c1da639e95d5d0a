package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tx is a transaction.
type tx struct {
	ctx   context.Context
	s     *Store
	conn  runner
	clock int64 // the store's, in microseconds, when the transaction began; 0 if it was not read
	// care is what is left out because the database has refused the update with it, by
	// provider, and of what is no provider's by "".
	care map[string]care
	// foreign says that meet sets row.queried as well.
	foreign bool
	// waits says whether anybody waited for a provider when load last read rows.
	waits bool
	// passing says that rows of the ledger that another client has locked are passed
	// over where they are found again later.
	passing bool
}

// runner runs the statements of a transaction: a *sql.Conn, or a *localTx.
type runner interface {
	ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// write runs f in a transaction that may write. If it fails for a reason that
// passes it runs f again, so f must set all it returns anew. Each time it waits for a
// second for what another client has locked, and after maxWaits the error wraps
// store.ErrLocked.
func (s *Store) write(ctx context.Context, f func(*tx) error) error {
	return s.writeUntimed(ctx, func(t *tx) error {
		if err := t.readClock(); err != nil {
			return err
		}
		return f(t)
	})
}

// writeUntimed is write for an f that reads the clock itself, with the first of
// its own queries: see tx.clocked.
func (s *Store) writeUntimed(ctx context.Context, f func(*tx) error) error {
	return s.retry(ctx, maxWaits, func() error { return s.attempt(ctx, writing, f) })
}

// maxWaits is how often a transaction is begun that waits in vain, for a second,
// for what another client has locked.
const maxWaits = 5

// writeUnlessLocked is writeUntimed, in the given mode, for an f that waits only once
// for what another client has locked.
func (s *Store) writeUnlessLocked(ctx context.Context, m mode, f func(*tx) error) error {
	return s.retry(ctx, 1, func() error { return s.attempt(ctx, m, f) })
}

// read runs f in a transaction that sees one state of the database. It may run
// it again, as write does.
func (s *Store) read(ctx context.Context, f func(*tx) error) error {
	return s.retry(ctx, maxWaits, func() error { return s.attempt(ctx, reading, f) })
}

// errClosed is what a database returns once it is closed. Package sql has it and
// does not export it.
var errClosed = func() error {
	db := sql.OpenDB(nil)
	_ = db.Close() // it has no connections
	_, err := db.Conn(context.Background())
	return err
}()

// mode is what a transaction is for.
type mode uint8

const (
	reading mode = iota
	writing
	brief     // writing, and hardly waiting for locks
	migrating // writing, and waiting for locks for as long as it takes
)

// attempt runs f in a transaction once.
func (s *Store) attempt(ctx context.Context, m mode, f func(*tx) error) error {
	within := func(ctx context.Context, conn runner) error {
		return f(&tx{ctx: ctx, s: s, conn: conn})
	}
	if s.d.local {
		return s.locally(ctx, m != reading, within)
	}
	return s.remotely(ctx, m, within)
}

// remotely runs f in a transaction of a database server, on a connection on
// which it begins and ends by statements: what is lost with a connection is
// known best that way.
func (s *Store) remotely(ctx context.Context, m mode, f func(context.Context, runner) error) (err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		closed := errors.Is(err, errClosed)
		err = s.connectFailed(err)
		if !closed { // with a code of the database it is what the code says
			err = &lostError{err}
		}
		return err
	}
	defer conn.Close()
	begin := [...][]string{reading: s.d.view, writing: s.d.begin, brief: s.d.brief, migrating: s.d.patient}[m]
	for _, text := range begin {
		_, err := conn.ExecContext(ctx, text)
		if code, ok := s.code(err); ok && code == s.d.inside {
			// With autocommit=0 whatever was done last on the connection began a transaction.
			if _, err = conn.ExecContext(ctx, "ROLLBACK"); err == nil {
				_, err = conn.ExecContext(ctx, text)
			}
		}
		if err != nil {
			discard(conn) // it may have begun all the same
			// With a code of the database it is what the code says.
			return &lostError{s.failed("begin a transaction", err)}
		}
	}
	committed := false
	defer func() {
		if !committed && !rollBack(ctx, conn) {
			discard(conn)
			err = &lostError{err}
		}
	}()
	if err := f(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return s.failed("commit", err)
	}
	committed = true
	return nil
}

// rollBack ends the transaction and reports whether the connection is still
// usable.
func rollBack(ctx context.Context, conn *sql.Conn) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err := conn.ExecContext(ctx, "ROLLBACK")
	return err == nil
}

// readClock sets t.clock, unless it is set. Several machines that share a database
// go by its clock.
func (t *tx) readClock() error {
	column, dest := t.clocked()
	if column == "" {
		return nil
	}
	_, err := t.one("read the clock", "SELECT "+strings.TrimPrefix(column, ", "), nil, dest...)
	return err
}

// clocked returns a further column for a query, with a comma before it, and where
// to scan it, so that the query sets t.clock. It returns nothing if t.clock is
// set, or can be set without a query.
func (t *tx) clocked() (column string, dest []any) {
	switch {
	case t.clock != 0:
	case t.s.now != nil || t.s.d.clock == "":
		t.clock = t.s.localTime().UnixMicro()
	default:
		return ", " + t.s.d.clock, []any{&t.clock}
	}
	return "", nil
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
	res, err := t.conn.ExecContext(t.ctx, t.s.placed(text), args...)
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
	rows, err := t.conn.QueryContext(t.ctx, t.s.placed(text), args...)
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

// queryAmong is query for the rows whose column, with which before ends, has one of
// the values.
func (t *tx) queryAmong(purpose, before string, values []string, after string, each func(scan func(dest ...any) error) error) error {
	for chunk := range slices.Chunk(values, maxParams) {
		among, args := t.among(chunk)
		if err := t.query(purpose, before+" "+among+after, args, each); err != nil {
			return err
		}
	}
	return nil
}

// into returns what appends the text of a row to a list.
func into(list *[]string) func(scan func(dest ...any) error) error {
	return func(scan func(dest ...any) error) error {
		var text string
		err := scan(&text)
		*list = append(*list, text)
		return err
	}
}

// one runs a query for a single row and reports whether there was one.
func (t *tx) one(purpose, text string, args []any, dest ...any) (found bool, err error) {
	err = t.query(purpose, text, args, func(scan func(...any) error) error {
		found = true
		return scan(dest...)
	})
	return found, err
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
	text, added := "", 0 // the last statement, and how many rows it adds
	for len(rows) > 0 {
		n, size := 0, 0
		for n < min(len(rows), t.s.d.rows) {
			if size += sizeOf(rows[n]); n > 0 && size > maxBytes {
				break
			}
			n++
		}
		n = round(n)
		args := make([]any, 0, n*len(rows[0]))
		for _, row := range rows[:n] {
			args = append(args, row...)
		}
		if n != added {
			text, added = head+" VALUES "+repeated(values, n)+tail, n
		}
		if err := t.exec(purpose, text, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// updates are changes of rows of a table, found by a key.
type updates struct {
	purpose, table, key string
	groups              []updateGroup // each with other columns
}

type updateGroup struct {
	columns []string
	rows    [][]any // values of the columns, and the key
}

// add sets columns of the row that has the key.
func (u *updates) add(key any, columns []string, values []any) {
	if len(columns) == 0 {
		return
	}
	i := slices.IndexFunc(u.groups, func(g updateGroup) bool { return slices.Equal(g.columns, columns) })
	if i < 0 {
		i, u.groups = len(u.groups), append(u.groups, updateGroup{columns: columns})
	}
	u.groups[i].rows = append(u.groups[i].rows, append(values, key))
}

// update changes rows by statements that change several at a time.
func (t *tx) update(u *updates) error {
	for _, g := range u.groups {
		width := len(g.columns)
		for rows := g.rows; len(rows) > 0; {
			n := round(min(len(rows), t.s.d.rows))
			set := make([]string, width)
			args := make([]any, 0, n*(2*width+1))
			for i, column := range g.columns {
				if n == 1 {
					set[i], args = column+" = ?", append(args, rows[0][i])
					continue
				}
				set[i] = column + " = CASE " + u.key + strings.Repeat(" WHEN ? THEN ?", n) + " ELSE " + column + " END"
				for _, row := range rows[:n] {
					args = append(args, row[width], row[i])
				}
			}
			for _, row := range rows[:n] {
				args = append(args, row[width])
			}
			text := "UPDATE " + u.table + " SET " + strings.Join(set, ", ") + " WHERE " + u.key + " IN " + params(n)
			if err := t.exec(u.purpose, text, args...); err != nil {
				return err
			}
			rows = rows[n:]
		}
	}
	return nil
}

// round returns the greatest of 1, 2, 3, 4, 6, 8, 12, … that is no more than n,
// for there to be few different statements.
func round(n int) int {
	step := max(1<<bits.Len(uint(n))/4, 1)
	return n - n%step
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

// among returns what follows a column that has to have one of the texts, and the
// arguments for it: one array, or a list whose length is a power of two, for there
// to be few different statements.
func (t *tx) among(list []string) (text string, args []any) {
	if t.s.d.arrays {
		return "= ANY (CAST(CAST(? AS TEXT) AS TEXT[]))", []any{array(list)}
	}
	n := 1
	for n < len(list) {
		n *= 2
	}
	args = make([]any, n)
	for i := range args {
		args[i] = list[min(i, len(list)-1)]
	}
	return "IN " + params(n), args
}

// escaped are the characters that have a meaning within a quoted element of an
// array.
var escaped = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// array returns a PostgreSQL array as text; see "Array Input and Output Syntax"
// in its manual.
func array(list []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, text := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		_, _ = escaped.WriteString(&b, text) // a Builder never fails
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
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

// maxLimit takes the place of greater limits that the caller of the store chooses. No
// store has so many attackers, and four times as many is still an int.
const maxLimit = 1 << 28

// limit ends a query. The number is part of the text, so that the database sees
// that the limit is low when it decides how to go about it.
func limit(n int) string { return fmt.Sprintf(" LIMIT %d", n) }

// limitFor is limit for a number that the caller of the store chooses. Where
// statements are kept there are to be few different ones, and it may let some
// more rows pass.
func (t *tx) limitFor(n int) string {
	if t.s.d.local {
		n = 1 << bits.Len(uint(n-1))
	}
	return limit(n)
}
