package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// Errors as drivers make them.
type (
	sqliteError   struct{ n int }
	postgresError struct{ state string }
	mysqlError    struct {
		Number  uint16
		Message string
	}
)

func (e sqliteError) Error() string { return "sqlite" }
func (e sqliteError) Code() int     { return e.n }

func (e *postgresError) Error() string    { return `ERROR: "secret" is no number` }
func (e *postgresError) SQLState() string { return e.state }

func (e *mysqlError) Error() string { return "Duplicate entry 'secret' for key 'x'" }

func TestFailuresAreClassified(t *testing.T) {
	for _, c := range []struct {
		dialect *dialect
		err     error
		want    class
	}{
		{&sqlite, sqliteError{5}, busy},
		{&sqlite, sqliteError{5 | 2<<8}, busy},
		{&sqlite, sqliteError{19 | 3<<8}, poison},
		{&sqlite, sqliteError{13}, fatal},
		{&postgres, &postgresError{"40001"}, busy},
		{&postgres, &postgresError{"40P01"}, busy},
		{&postgres, &postgresError{"57P01"}, lost},
		{&postgres, &postgresError{"08006"}, lost},
		{&postgres, &postgresError{"57014"}, lost},
		{&postgres, &postgresError{"25P03"}, lost},
		{&postgres, &postgresError{"55P03"}, locked},
		{&mysql, &mysqlError{Number: 1969}, lost},
		{&mysql, &mysqlError{Number: 3024}, lost},
		{&postgres, &postgresError{"23505"}, race},
		{&postgres, &postgresError{"22P02"}, poison},
		{&postgres, &postgresError{"42P01"}, fatal},
		{&postgres, &postgresError{"28P01"}, fatal},
		{&mysql, &mysqlError{Number: 1213}, busy},
		{&mysql, &mysqlError{Number: 1205}, locked},
		{&mysql, &mysqlError{Number: 1053}, lost},
		{&mysql, &mysqlError{Number: 4031}, lost},
		{&mysql, &mysqlError{Number: 1062}, race},
		{&mysql, &mysqlError{Number: 1406}, poison},
		{&mysql, &mysqlError{Number: 3988}, poison},
		{&mysql, &mysqlError{Number: 1146}, fatal},
		{&mysql, driver.ErrBadConn, lost},
		{&postgres, io.ErrUnexpectedEOF, lost},
		{&postgres, &net.OpError{Op: "dial", Err: errors.New("refused")}, lost},
		{&mysql, &lostError{errors.New("invalid connection")}, lost},
		{&postgres, errors.New("sql: database is closed"), fatal},
		{&postgres, context.Canceled, fatal},
	} {
		s := &Store{d: c.dialect, code: code}
		require.Equal(t, c.want, s.classify(fmt.Errorf("wrapped: %w", s.failed("try", c.err))), "%s %v", c.dialect.title, c.err)
	}
}

func TestFailuresQuoteNoValues(t *testing.T) {
	for _, c := range []struct {
		dialect *dialect
		err     error
		text    string
	}{
		{&postgres, &postgresError{"22P02"}, "sqlstore: write: PostgreSQL refuses it with code 22P02"},
		{&mysql, &mysqlError{Number: 1062}, "sqlstore: write: MySQL refuses it with code 1062"},
		{&mysql, &mysqlError{Number: 9999}, "sqlstore: write: MySQL refuses it with code 9999"},
		{&sqlite, sqliteError{19}, "sqlstore: write: sqlite"},
		{&postgres, io.EOF, "sqlstore: write: EOF"},
	} {
		err := (&Store{d: c.dialect, code: code}).failed("write", c.err)
		require.EqualError(t, err, c.text)
		require.ErrorIs(t, err, c.err)
	}
}

func TestFailuresOfStatementsQuoteNoValues(t *testing.T) {
	encode := errors.New("failed to encode args[10]: unable to encode 99999999999 into binary format for int4")
	for _, c := range []struct {
		err  error
		text string
		want class
	}{
		{encode, "sqlstore: write: the driver fails with an error that is not shown, because it may quote values", poison},
		{
			fmt.Errorf("sql: Scan error on column index 0: %w", encode),
			"sqlstore: write: the driver fails with an error that is not shown, because it may quote values", poison,
		},
		{&lostError{encode}, "sqlstore: write: the driver fails with an error that is not shown, because it may quote values", lost},
		{&postgresError{"42P01"}, `sqlstore: write: ERROR: "secret" is no number`, fatal},
		{&postgresError{"22P02"}, "sqlstore: write: PostgreSQL refuses it with code 22P02", poison},
		{fmt.Errorf("timeout: %w", context.DeadlineExceeded), "sqlstore: write: timeout: context deadline exceeded", fatal},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, "sqlstore: write: dial: refused", lost},
		{io.ErrUnexpectedEOF, "sqlstore: write: unexpected EOF", lost},
		{ // pgx tries with TLS and without
			fmt.Errorf("cannot connect:\n\tto a: refused\n\tto a: refused\n\tto b: %w", io.EOF),
			"sqlstore: write: cannot connect:\n\tto a: refused\n\tto b: EOF", lost,
		},
		{sql.ErrConnDone, "sqlstore: write: sql: connection is already closed", fatal},
	} {
		s := &Store{d: &postgres, code: code}
		err := s.statementFailed("write", c.err)
		require.EqualError(t, err, c.text)
		require.ErrorIs(t, err, c.err)
		require.Equal(t, c.want, s.classify(fmt.Errorf("wrapped: %w", err)), c.text)
	}
}
