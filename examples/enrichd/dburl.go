package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/decnet/enrich/store/sqlstore"
)

// database says where attackers and what is learnt about them are kept.
type database struct {
	*engine
	path       string // of an SQLite file; the rest is for servers
	ambiguous  bool   // the path is taken as absolute and would be relative for SQLAlchemy
	mustExist  bool   // DECNET's tables have to be there: they are not created
	host, port string
	name       string
	user       string
	password   string
	params     url.Values // for the driver
}

// String names the database without its password.
func (d database) String() string {
	if d.engine == nil {
		return "no database"
	}
	if d.path != "" {
		return d.title + " " + d.path
	}
	if socket := d.params.Get("unix_socket"); socket != "" {
		return d.title + " " + d.name + " on " + socket
	}
	return d.title + " " + d.name + " on " + net.JoinHostPort(d.host, d.port)
}

// database reads which database to use. DECNET itself reads DECNET_DB_URL and the
// parts only with DECNET_DB_TYPE=mysql, and otherwise uses the file decnet.db in
// its install directory.
func (e *environment) database(o options) database {
	kind := strings.ToLower(e.text("DECNET_DB_TYPE"))
	dir, installed := e.installDir(o)
	server := kind != "" && kind != "sqlite"
	var (
		d   database
		err error
		at  string // what names it; empty if nothing does
	)
	switch text := e.text("DECNET_DB_URL"); {
	case o.db != "":
		at = "-db"
		d, err = parseDatabase(o.db)
	case server && text == "":
		at = "DECNET_DB_TYPE"
		d, err = e.databaseByParts(kind)
	case installed && !server:
		at = "-decnet"
		d = database{engine: engineFor("sqlite"), path: filepath.Join(dir, "decnet.db")}
		if text != "" {
			e.warn("DECNET_DB_URL is ignored, as DECNET ignores it: the database is %s; name another with -db, or set DECNET_DB_TYPE", d.path)
		}
	case text != "":
		at = "DECNET_DB_URL"
		if d, err = parseDatabaseURL(text); err == nil && kind != "" && d.engine != engineFor(kind) {
			err = fmt.Errorf("it is a URL of %s, and DECNET_DB_TYPE is %.40q; make them agree, or name the database with -db", d.title, kind)
		}
	default:
		d = database{engine: engineFor("sqlite"), path: "enrich.db"}
	}
	d.mustExist = at != "" && !o.create
	if err != nil {
		e.refuse("%s: %w", at, err)
		return database{}
	}
	if d.port == "" && o.db == "" && e.text("DECNET_DB_NAME") != "" && !installed {
		e.warn("DECNET_DB_NAME is ignored, as DECNET ignores it: the database is %s; name another with -db", d.path)
	}
	if doubt := d.doubt(); doubt != "" {
		e.warn("%s", doubt)
	}
	return d
}

// installDir returns DECNET's install directory, and whether there is one.
func (e *environment) installDir(o options) (string, bool) {
	if o.decnet == "" {
		info, err := os.Stat(defaultInstallDir)
		return defaultInstallDir, err == nil && info.IsDir()
	}
	if info, err := os.Stat(o.decnet); err != nil {
		e.refuse("-decnet: %w", err)
	} else if !info.IsDir() {
		e.refuse("-decnet: %s is not a directory", o.decnet)
	}
	return o.decnet, true
}

// parseDatabase reads a URL, or the path of an SQLite file.
func parseDatabase(text string) (database, error) {
	if strings.Contains(text, "://") {
		return parseDatabaseURL(text)
	}
	return database{engine: engineFor("sqlite"), path: filepath.Clean(text)}, nil
}

// parseDatabaseURL reads a URL as SQLAlchemy writes it. Its errors do not repeat
// the text, in which there may be a password.
func parseDatabaseURL(text string) (database, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return database{}, errors.New("it is not a URL; write one like sqlite:///var/lib/decnet/decnet.db or mysql://user:password@host/name")
	}
	scheme, driver, _ := strings.Cut(strings.ToLower(scheme), "+")
	eng := engineFor(scheme)
	switch {
	case eng == nil:
		return database{}, fmt.Errorf("it begins with %.40q; known are sqlite, postgres, postgresql, mysql and mariadb", scheme)
	case eng.port == "":
		return parseSQLiteURL(eng, rest, driver != "")
	}
	u, err := url.Parse(scheme + "://" + rest)
	at := strings.LastIndexByte(rest, '@')
	if err != nil || strings.Contains(rest, "#") || strings.ContainsAny(rest[:max(at, 0)], "/?") { // a host may be part of a password
		return database{}, errors.New("it is not a URL; characters of the password other than letters and digits have to be escaped, like %40 for @")
	}
	password, _ := u.User.Password()
	d := database{
		engine: eng, host: u.Hostname(), port: u.Port(), name: strings.TrimPrefix(u.Path, "/"),
		user: u.User.Username(), password: password, params: u.Query(),
	}
	if eng.dialect == sqlstore.MySQL {
		if _, err := translateMySQL(d.params); err != nil {
			return database{}, err
		}
	}
	return d.complete()
}

// parseSQLiteURL reads what follows "sqlite://": an absolute path after one
// more slash, otherwise a relative one. SQLAlchemy, whose URLs name a driver,
// wants a slash more before both: a path with three slashes is then ambiguous,
// and a mere file name is refused.
func parseSQLiteURL(eng *engine, rest string, driver bool) (database, error) {
	if strings.Contains(rest, "?") {
		return database{}, errors.New("parameters are not supported with SQLite")
	}
	path, err := url.PathUnescape(rest)
	if err != nil {
		return database{}, errors.New("there is a percent sign in the path that escapes nothing; write %25 for one")
	}
	clean := filepath.Clean(path)
	ambiguous := driver && filepath.IsAbs(path) && !strings.HasPrefix(path, "//")
	switch {
	case strings.Trim(path, "/") == "" || strings.HasSuffix(path, "/") || strings.HasSuffix(path, ":memory:"):
		return database{}, errors.New("it names no file; write it like sqlite:///var/lib/decnet/decnet.db")
	case ambiguous && filepath.Dir(clean) == "/":
		return database{}, fmt.Errorf("it is not clear where %.100q is; write sqlite:/%s for the current directory, sqlite://%s for the root",
			clean[1:], clean, clean)
	}
	return database{engine: eng, path: clean, ambiguous: ambiguous}, nil
}

// doubt returns what is to be said about an ambiguous path at which there is
// nothing, and otherwise nothing.
func (d database) doubt() string {
	if !d.ambiguous {
		return ""
	}
	if _, err := os.Stat(d.path); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return fmt.Sprintf("the database is to be the file %s, which is not there; if it is one below the current directory, write sqlite:/%s", d.path, d.path)
}

// databaseByParts reads the variables that DECNET has for the parts of a URL of a
// server.
func (e *environment) databaseByParts(kind string) (database, error) {
	eng := engineFor(kind)
	if eng == nil {
		return database{}, fmt.Errorf("it is %.40q; it must be sqlite, postgres or mysql", kind)
	}
	return database{
		engine: eng, host: e.text("DECNET_DB_HOST"), port: e.text("DECNET_DB_PORT"), name: e.text("DECNET_DB_NAME"),
		user: e.text("DECNET_DB_USER"), password: e.get("DECNET_DB_PASSWORD"),
	}.complete()
}

// complete fills in what was left open.
func (d database) complete() (database, error) {
	d.host = cmp.Or(d.host, "localhost")
	d.port = cmp.Or(d.port, d.engine.port)
	d.name = cmp.Or(d.name, "decnet")
	d.user = cmp.Or(d.user, "decnet")
	if n, err := strconv.ParseUint(d.port, 10, 16); err != nil || n == 0 {
		return d, errors.New("the port is not a number between 1 and 65535")
	}
	return d, nil
}
