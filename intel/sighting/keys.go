package sighting

import (
	"bytes"
	"strings"
)

// role is what the name of a field or the word before an address says about it.
type role uint8

const (
	unknown   role = iota
	source         // the attacker
	general        // an address of nobody in particular; the attacker's if no field names a source
	forwarded      // addresses that a forwarder names
	other          // the destination, the sensor, the next hop, a name in a request
	version        // a version or serial number
	moment         // the time
	message        // a line of text
	direction      // says who is the client
	wrapper        // a container of the fields
)

// meaning is the role of a field and its rank among those of the same role: the
// smallest rank counts.
type meaning struct {
	role role
	rank uint8
}

// fields are the meanings of names, written as [normalize] writes them.
var fields = func() map[string]meaning {
	m := map[string]meaning{}
	add := func(r role, rank uint8, names string) {
		for name := range strings.FieldsSeq(names) {
			m[name] = meaning{r, rank}
		}
	}
	add(source, 1, `srcip srchost srcaddr srcaddress srcipv4 srcipv6 saddr sourceip sourceaddr sourceaddress
		sourcehost sourceips sourceipaddress sourceipv4 sourceipv6 ipsrc sourcenetworkaddress
		attackerip attackeraddr attackeraddress attacker attackerhost sip4 sip6 clientsrcip src source rhost idorigh origh
		callerip calleripaddress requesterip requesterips remoteip remoteaddr remoteaddress remotehost remoteipaddress remotehostip
		peerip peeraddr peeraddress clientip clientipaddr clientipaddress clientaddr clientaddress cip cli
		rip oip vieweraddress useripaddress userip offenderip intruderip scannerip botip`)
	add(source, 2, `peer client remote clienthost connectinghost relay sender srcipaddr ipsource clientipport clientaddrport`)
	add(source, 3, `connection`)
	add(general, 1, `ip ipaddress ipaddressv4 ipaddressv6 ipaddr ipv4 ipv6 ipstr ipv4addr`)
	add(general, 2, `addr address host`)
	add(general, 3, `value indicator ioc pattern observable entity`)
	add(forwarded, 1, `xforwardedfor xff forwarded forwardedfor httpxforwardedfor csxforwardedfor forwardedip forwardedips
		xrealip trueclientip cfconnectingip xclientip originalclientip headersxforwardedfor`)
	add(other, 1, `dst dstip dsthost dstaddr dstaddress dstipv4 dstipv6 dest destip desthost destaddr destination destinationip
		destinationipv4 destinationaddress destinationhost daddr ipdst idresph resph lip laddr localip localaddr localaddress local localhost
		listenaddr listenaddress bind server serverip serveraddr serveraddress serverhost servername hostip hosts hostname hostaddr sensor sensorip sensors
		sensorname observer observerip agent agentip agents beat gateway gw nexthop via router hop target targetip targethost targets
		victim victimip honeypot honeypotip honeypothost nat natip natsrcip natdstip natsrc natdst srcnat dstnat transip translated
		srctranslatedaddress sourcetranslatedaddress destinationtranslatedaddress xlatesrc xlatedst mappedip
		device deviceip deviceaddress dvc dvchost dvcaddr reporter reporterip exporter probe collector
		upstream upstreamaddr backend url uri referer referrer useragent requestclientapplication query answer answers rdata dns
		related tpotipext tpotipint geoipext ownip publicip externalip myip interface i to toaddr toip helo ehlo heloname
		dip sip2 svrip srvip srv sip0 vip loadbalancer lb elb requestparameters responseelements
		node nodeip nodeid cluster podip hostipaddress machine computer workstation nas nasip nasipaddress dhcp
		mailfrom rcpt sndr arg1 kernel file path exe log4j payload body useridentity tls http cert issuer subject`)
	add(version, 1, `version ver v rv rev revision release build firmware fw fwversion swversion osversion softwareversion
		clientversion serverversion serial serialno serialnumber sn oid sysoid objectid driver patch sysobjectid snmpoid agentversion hardware hw
		lib library engine product appversion app schemaversion`)
	add(moment, 1, `timestamp time ts utctime eventtime datetime starttime start eventstart rt devicereceipttime
		timecreated startutc eventtimestamp timeiso8601`)
	add(moment, 2, `localtime created eventcreated date occurred firstseen realtimetimestamp sourcerealtimetimestamp end lastseen receivedat generatedtime`)
	add(message, 1, `message msg log eventoriginal original raw rawmessage rawlog fullmessage shortmessage line text`)
	add(direction, 1, `direction networkdirection flowdirection connectiondirection devicedirection trafficdirection`)
	add(wrapper, 1, `winlog hits fields event events data result results record records properties attributes attr jsonpayload protopayload
		requestmetadata httprequest attackconnection json eventdata userdata system details info
		objects rows items entries logs alerts flow id session conn network ctx context extra callermetadata req request`)
	return m
}()

// maxName is the longest name of a field that has a meaning.
const maxName = 40

// normalize writes a name into buf in small letters, without anything but letters
// and digits. It returns nil for a name that is too long.
func normalize(buf *[maxName]byte, name []byte) []byte {
	n := 0
	for _, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		case c >= 'a' && c <= 'z', isDigit(c):
		default:
			continue
		}
		if n == maxName {
			return nil
		}
		buf[n] = c
		n++
	}
	return buf[:n]
}

// meaningOf returns what a field of the given name holds.
func meaningOf(name []byte) meaning {
	var buf [maxName]byte
	n := normalize(&buf, name)
	if m, ok := fields[string(n)]; ok {
		return m
	}
	return partsOf(n)
}

// wordMeaning returns what a word holds that is the name of a field as it is.
func wordMeaning(name []byte) meaning {
	var buf [maxName]byte
	return fields[string(normalize(&buf, name))]
}

// partsOf returns the meaning of a name of several parts, such as
// event_data.SourceIp or source.nat.ip.
func partsOf(name []byte) meaning {
	switch {
	case len(name) < 5:
		return meaning{}
	case bytes.HasSuffix(name, []byte("forwardedfor")):
		return meaning{forwarded, 1}
	case bytes.HasSuffix(name, []byte("version")), bytes.HasPrefix(name, []byte("version")), bytes.HasPrefix(name, []byte("serial")):
		return meaning{version, 1}
	case !bytes.HasSuffix(name, []byte("ip")) && !bytes.HasSuffix(name, []byte("addr")) && !bytes.HasSuffix(name, []byte("address")) && !bytes.HasSuffix(name, []byte("host")):
		return meaning{}
	}
	for _, part := range otherParts {
		if bytes.Contains(name, part) {
			return meaning{other, 2}
		}
	}
	for _, part := range sourceParts {
		if bytes.Contains(name, part) {
			return meaning{source, 4}
		}
	}
	return meaning{}
}

// sideOf returns which side of a connection an object describes, by its name, such
// as remoteIpDetails; unknown if it does not say.
func sideOf(name []byte) role {
	var buf [maxName]byte
	n := normalize(&buf, name)
	for _, part := range otherParts {
		if bytes.HasPrefix(n, part) {
			return other
		}
	}
	for _, part := range sourceParts {
		if bytes.HasPrefix(n, part) {
			return source
		}
	}
	return unknown
}

var (
	otherParts  = bytes.Fields([]byte("dst dest nat xlate translated server sensor local"))
	sourceParts = bytes.Fields([]byte("source src attacker remote client peer"))
)

// outward reports whether the value of a field that says a direction means that
// the source is on our side.
func outward(value string) bool {
	switch strings.ToLower(value) {
	case "to_client", "toclient", "outbound", "egress", "outgoing", "out":
		return true
	}
	return false
}
