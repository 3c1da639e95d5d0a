package sqlstore

import (
	"context"
	"database/sql"
	"sync"
	"sync/atomic"
)

// maxKept is how many statements are remembered at most.
const maxKept = 256

// local is what a store keeps about a database inside the process.
type local struct {
	// turn holds a token while this store writes. Who waits for it goes on at
	// once, where SQLite would make it sleep and look again.
	turn chan struct{}
	// kept are statements by their text, prepared on every connection that has
	// run them and closed together with it, or nil for one that was run once.
	kept      sync.Map
	remembers atomic.Int32
	// written counts the statements that write since the last checkpoint began. Only who
	// holds the turn uses it.
	written int
	// copying holds a token during a checkpoint.
	copying chan struct{}
}

func newLocal() *local {
	return &local{turn: make(chan struct{}, 1), copying: make(chan struct{}, 1)}
}

// localTx is a transaction of such a database. Parsing statements takes much
// of the time, so those that come again are kept prepared.
type localTx struct {
	*sql.Tx
	s     *Store
	stmts map[string]*sql.Stmt
	fresh []string // what was not kept yet
}

// locally runs f in a transaction. It waits no longer than ctx for the
// transaction to begin. After that nothing takes long enough to be watched for
// the end of ctx.
func (s *Store) locally(ctx context.Context, writes bool, f func(context.Context, runner) error) error {
	endTurn := func() {}
	if writes {
		select {
		case s.local.turn <- struct{}{}:
			endTurn = sync.OnceFunc(func() { <-s.local.turn })
			defer endTurn()
		case <-ctx.Done():
			return s.failed("begin a transaction", ctx.Err())
		}
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.failed("connect to the database", err)
	}
	defer conn.Close()
	unwatched := context.WithoutCancel(ctx)
	begins, cancel := context.WithCancel(unwatched)
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	t := &localTx{s: s, stmts: make(map[string]*sql.Stmt)}
	t.Tx, err = conn.BeginTx(begins, &sql.TxOptions{ReadOnly: !writes})
	if err == nil && writes {
		err = t.lock(begins)
	}
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		if t.Tx != nil {
			t.end(conn)
		}
		return s.failed("begin a transaction", err)
	}
	if err := f(unwatched, t); err != nil {
		if !t.end(conn) {
			err = &lostError{err}
		}
		return err
	}
	if err := t.Commit(); err != nil {
		discard(conn)
		return s.failed("commit", err)
	}
	if writes && s.local.written >= checkpointAfter {
		s.checkpoint(unwatched, conn, endTurn)
	}
	_ = conn.Close() // so that there is one to prepare statements on
	s.keep(ctx, t.fresh)
	return nil
}

// checkpointAfter is the number of statements that write after which there is a
// checkpoint. The log then has about 10 MiB.
const checkpointAfter = 2000

// checkpoint copies the log of what was written into the database. It ends the turn, so
// that others write meanwhile. If another checkpoint is under way it waits for that and
// keeps the turn, so that the log does not grow faster than it is copied.
func (s *Store) checkpoint(ctx context.Context, conn *sql.Conn, endTurn func()) {
	s.local.written = 0
	select {
	case s.local.copying <- struct{}{}:
		endTurn()
	default:
		s.local.copying <- struct{}{}
	}
	defer func() { <-s.local.copying }()
	_, _ = conn.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)") // the next one does what fails
}

// lock takes the lock that writers need, unless the driver began with it: a
// transaction that has read before cannot wait for it. Where there are no tables
// yet, one that finds somebody else migrating fails, and is tried again.
func (t *localTx) lock(ctx context.Context) error {
	_, err := t.ExecContext(ctx, "UPDATE enrich_cursor SET at = at WHERE name = ''")
	if err != nil {
		there := 1
		if t.QueryRowContext(ctx, t.s.d.exists, "enrich_cursor").Scan(&there) == nil && there == 0 {
			return nil
		}
	}
	return err
}

// end rolls the transaction back, and reports whether the connection is still
// usable. It is discarded otherwise.
func (t *localTx) end(conn *sql.Conn) bool {
	err := t.Rollback()
	if err != nil {
		discard(conn)
	}
	return err == nil
}

// ExecContext hides that of sql.Tx.
func (t *localTx) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	t.s.local.written++
	stmt, err := t.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

// QueryContext hides that of sql.Tx.
func (t *localTx) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	stmt, err := t.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// prepare returns a statement for use in the transaction.
func (t *localTx) prepare(ctx context.Context, text string) (*sql.Stmt, error) {
	stmt := t.stmts[text]
	if stmt != nil {
		return stmt, nil
	}
	if kept, ok := t.s.local.kept.Load(text); ok && kept.(*sql.Stmt) != nil {
		stmt = t.StmtContext(ctx, kept.(*sql.Stmt))
	} else {
		var err error
		if stmt, err = t.PrepareContext(ctx, text); err != nil {
			return nil, err
		}
		t.fresh = append(t.fresh, text)
	}
	t.stmts[text] = stmt
	return stmt, nil
}

// keep remembers statements that were run, and prepares those that were run
// before. It is not called within a transaction, for it may need a connection.
func (s *Store) keep(ctx context.Context, texts []string) {
	for _, text := range texts {
		once := (*sql.Stmt)(nil)
		if _, again := s.local.kept.Load(text); !again {
			if s.local.remembers.Add(1) <= maxKept {
				s.local.kept.Store(text, once)
			}
			continue
		}
		stmt, err := s.db.PrepareContext(ctx, text)
		if err != nil {
			continue // the statement is run without, as before
		}
		if !s.local.kept.CompareAndSwap(text, once, stmt) {
			_ = stmt.Close() // somebody else was first
		}
	}
}
