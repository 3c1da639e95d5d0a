package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTranslateMySQL(t *testing.T) {
	query, err := url.ParseQuery("connect_timeout=3&read_timeout=4&writeTimeout=5s&charset=latin1&autocommit=0&use_unicode=1&loc=Europe%2FBerlin&parseTime=true")
	require.NoError(t, err)
	params, err := translateMySQL(query)
	require.NoError(t, err)
	c, err := params.config("db:3306")
	require.NoError(t, err)
	require.Equal(t, []time.Duration{3 * time.Second, 4 * time.Second, 5 * time.Second}, []time.Duration{c.Timeout, c.ReadTimeout, c.WriteTimeout})
	require.Equal(t, []string{"tcp", "db:3306"}, []string{c.Net, c.Addr})
	require.Equal(t, time.UTC, c.Loc, "times are UTC whatever the URL says")
	require.False(t, c.ParseTime)
	require.Empty(t, c.Params, "nothing is set in sessions")
	require.Nil(t, c.TLS)

	params, err = translateMySQL(url.Values{"unix_socket": {"/run/mysqld.sock"}})
	require.NoError(t, err)
	c, err = params.config("db:3306")
	require.NoError(t, err)
	require.Equal(t, []string{"unix", "/run/mysqld.sock"}, []string{c.Net, c.Addr})
}

// TestParametersThatCannotBeTranslated are rejected by name.
func TestParametersThatCannotBeTranslated(t *testing.T) {
	for query, want := range map[string]string{
		"init_command=" + secret:                     `the parameter "init_command" cannot be translated for Go's driver; remove it`,
		"sql_mode=" + secret:                         `the parameter "sql_mode" cannot`,
		"multiStatements=true":                       `the parameter "multiStatements" cannot`,
		"connect_timeout=" + secret:                  "the parameter connect_timeout is not a number of seconds",
		"connect_timeout=-1":                         "the parameter connect_timeout is not a number of seconds",
		"ssl_check_hostname=" + secret + "&ssl_ca=x": "the parameter ssl_check_hostname is neither true nor false",
		"ssl_check_hostname=false":                   "the parameter ssl_check_hostname needs ssl_ca",
		"ssl_cert=" + secret:                         "the parameters ssl_cert and ssl_key go together",
		"ssl_ca=" + secret + "&tls=true":             "the parameters tls and ssl_... exclude each other",
	} {
		r := runWith(t, map[string]string{"DECNET_DB_URL": "mysql+asyncmy://u:p@h/n?" + query}, "-once")
		require.Equal(t, exitUsage, r.code, query)
		require.Contains(t, r.stderr, "DECNET_DB_URL: "+want)
		require.NotContains(t, r.stderr, secret)
	}
}

// TestMySQLWithCertificates: the server's certificate has to come from ssl_ca, and
// to name the host unless ssl_check_hostname says otherwise.
func TestMySQLWithCertificates(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler()) // any server with a certificate of its own
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return path
	}
	own := write("own.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	empty := write("empty.pem", nil)
	for name, c := range map[string]struct {
		params url.Values
		host   string
		ok     bool
	}{
		"right":                 {url.Values{"ssl_ca": {own}}, "example.com", true},
		"another host":          {url.Values{"ssl_ca": {own}}, "db", false},
		"another host, allowed": {url.Values{"ssl_ca": {own}, "ssl_check_hostname": {"false"}}, "db", true},
	} {
		t.Run(name, func(t *testing.T) {
			params, err := translateMySQL(c.params)
			require.NoError(t, err)
			config, err := params.config("db:3306")
			require.NoError(t, err)
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			config.TLS.ServerName = c.host
			require.Equal(t, c.ok, tls.Client(conn, config.TLS).HandshakeContext(t.Context()) == nil)

			strangers, err := translateMySQL(c.params)
			require.NoError(t, err)
			strangers.ca = write("other.pem", otherCertificate(t))
			config, err = strangers.config("db:3306")
			require.NoError(t, err)
			conn, err = net.Dial("tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			config.TLS.ServerName = c.host
			require.Error(t, tls.Client(conn, config.TLS).HandshakeContext(t.Context()), "the certificate is another authority's")
		})
	}
	for _, c := range []struct {
		params mysqlParams
		want   string
	}{
		{mysqlParams{ca: empty}, "ssl_ca: there is no certificate in " + empty},
		{mysqlParams{ca: "/nowhere/ca.pem"}, "ssl_ca: open /nowhere/ca.pem"},
		{mysqlParams{cert: own, key: empty}, "ssl_cert: "},
	} {
		_, err := c.params.config("db:3306")
		require.ErrorContains(t, err, c.want)
	}
}

// otherCertificate returns the certificate of an authority that has signed
// nothing here.
func otherCertificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestMySQLOverItsSocket: unix_socket takes the place of host and port, and what
// SQLAlchemy's drivers say of sessions does not matter.
func TestMySQLOverItsSocket(t *testing.T) {
	eng := engineFor("mysql")
	address := serverOf(eng)
	needServer(t, address)
	query := func(text, statement string) (got string) {
		d, err := parseDatabaseURL(text)
		require.NoError(t, err)
		db, err := d.engine.open(d)
		require.NoError(t, err)
		defer db.Close()
		require.NoError(t, db.QueryRowContext(t.Context(), statement).Scan(&got))
		return got
	}
	over := "mysql+asyncmy://root@" + address + "/mysql?connect_timeout=5&charset=utf8&autocommit=0&loc=Europe%2FBerlin"
	require.Equal(t, "1 utf8mb4", query(over, "SELECT CONCAT(@@autocommit = 1, ' ', @@character_set_client)"))
	socket := query(over, "SELECT @@socket")
	if _, err := os.Stat(socket); err != nil {
		t.Skip("the server is on another machine")
	}
	over = "mysql+pymysql://root@nowhere.invalid/mysql?unix_socket=" + url.QueryEscape(socket)
	require.Equal(t, "mysql", query(over, "SELECT DATABASE()"))
	d, err := parseDatabaseURL(over)
	require.NoError(t, err)
	require.Equal(t, "MySQL mysql on "+socket, d.String())
}
