package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"

	"github.com/go-sql-driver/mysql"
)

// mysqlParams are the parameters of a MySQL URL, translated.
type mysqlParams struct {
	driver        url.Values // as Go's driver spells them
	socket        string     // a UNIX socket in place of host and port
	ca, cert, key string     // files in PEM
	anyHost       bool       // the server's certificate may name any host
}

// translateMySQL translates the parameters of a MySQL URL. They may be those of the
// drivers that SQLAlchemy uses, and those of Go's driver that concern the
// connection. It returns an error that names a parameter it cannot translate,
// since ignoring one would make another connection than the one that was asked
// for. No error repeats a value.
func translateMySQL(params url.Values) (mysqlParams, error) {
	t := mysqlParams{driver: url.Values{}}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		value := params.Get(name)
		switch name {
		case "allowCleartextPasswords", "allowFallbackToPlaintext", "allowNativePasswords", "checkConnLiveness", "compress",
			"connectionAttributes", "maxAllowedPacket", "readTimeout", "rejectReadOnly", "serverPubKey", "timeout", "tls", "writeTimeout":
			t.driver.Set(name, value)
		case "connect_timeout", "read_timeout", "write_timeout":
			seconds, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return t, fmt.Errorf("the parameter %s is not a number of seconds", name)
			}
			own := map[string]string{"connect_timeout": "timeout", "read_timeout": "readTimeout", "write_timeout": "writeTimeout"}[name]
			t.driver.Set(own, strconv.FormatUint(seconds, 10)+"s")
		case "autocommit", "charset", "collation", "binary_prefix", "use_unicode", "loc", "parseTime":
			// Text is UTF-8 and times are UTC, and transactions begin where the store
			// begins them, whatever the URL says.
		case "unix_socket":
			t.socket = value
		case "ssl_ca":
			t.ca = value
		case "ssl_cert":
			t.cert = value
		case "ssl_key":
			t.key = value
		case "ssl_check_hostname":
			check, err := strconv.ParseBool(value)
			if err != nil {
				return t, fmt.Errorf("the parameter %s is neither true nor false", name)
			}
			t.anyHost = !check
		default:
			return t, fmt.Errorf("the parameter %.40q cannot be translated for Go's driver; remove it", name)
		}
	}
	switch {
	case (t.cert == "") != (t.key == ""):
		return t, errors.New("the parameters ssl_cert and ssl_key go together")
	case t.anyHost && t.ca == "":
		return t, errors.New("the parameter ssl_check_hostname needs ssl_ca")
	case t.driver.Has("tls") && (t.ca != "" || t.cert != ""):
		return t, errors.New("the parameters tls and ssl_... exclude each other")
	}
	return t, nil
}

// config returns the configuration of Go's driver for a server at address.
func (t mysqlParams) config(address string) (*mysql.Config, error) {
	c, err := mysql.ParseDSN("/?" + t.driver.Encode())
	if err != nil {
		return nil, errors.New("the parameters make no sense to the driver") // whose error may repeat them
	}
	c.Net, c.Addr = "tcp", address
	if t.socket != "" {
		c.Net, c.Addr = "unix", t.socket
	}
	if t.ca == "" && t.cert == "" {
		return c, nil
	}
	c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return nil, fmt.Errorf("ssl_ca: %w", err)
		}
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ssl_ca: there is no certificate in %s", t.ca)
		}
	}
	if t.cert != "" {
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, fmt.Errorf("ssl_cert: %w", err)
		}
		c.TLS.Certificates = []tls.Certificate{pair}
	}
	if t.anyHost {
		roots := c.TLS.RootCAs
		c.TLS.InsecureSkipVerify = true // the chain is verified below, without the host's name
		c.TLS.VerifyConnection = func(s tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
			for _, cert := range s.PeerCertificates[1:] {
				o.Intermediates.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(o)
			return err
		}
	}
	return c, nil
}
