package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// slowConn is a connection, and what connects to it, whose statements end when the test
// says so.
type slowConn struct {
	driver.Connector
	driver.Conn
	begun atomic.Int64 // statements
	end   chan struct{}
}

func (c *slowConn) Connect(context.Context) (driver.Conn, error) { return c, nil }

func (c *slowConn) Close() error { return nil }

func (c *slowConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	c.begun.Add(1)
	<-c.end
	return driver.ResultNoRows, nil
}

// TestCheckpointKeepsTheTurn: others write during a checkpoint, but not while the next
// one waits for it.
func TestCheckpointKeepsTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowConn{end: make(chan struct{})}
		s := &Store{db: sql.OpenDB(slow), local: newLocal()}
		ended := make(map[int]bool) // the turns that checkpoints have ended
		start := func(n int) {
			conn, err := s.db.Conn(t.Context())
			require.NoError(t, err)
			go func() {
				s.checkpoint(t.Context(), conn, func() { ended[n] = true })
				_ = conn.Close()
			}()
			synctest.Wait()
		}
		start(1)
		require.True(t, ended[1])
		start(2)
		require.EqualValues(t, 1, slow.begun.Load())
		slow.end <- struct{}{}
		synctest.Wait()
		require.EqualValues(t, 2, slow.begun.Load())
		slow.end <- struct{}{}
		synctest.Wait()
		require.False(t, ended[2])
		start(3)
		require.True(t, ended[3])
		slow.end <- struct{}{}
		synctest.Wait()
		require.NoError(t, s.db.Close())
	})
}
