package intake

import (
	"strings"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// family groups PostgreSQL types by what a name can mean with them.
type family string

const (
	famText   family = "text"
	famInt    family = "whole number"
	famNumber family = "number"
	famBool   family = "boolean"
	famDate   family = "date"
	famStamp  family = "time stamp"
	famTime   family = "time of day"
	famUUID   family = "uuid"
	famNet    family = "network address"
	famMac    family = "MAC address"
	famBytes  family = "bytes"
	famJSON   family = "document"
	famEnum   family = "enumeration"
	famOther  family = "other"
)

// familyOf is the family of a column, domains and arrays resolved to what is in them.
func familyOf(c *postgres.Column) family {
	kind, name := c.BaseKind, c.BaseType
	if c.ElemOID != 0 {
		kind, name = c.ElemKind, c.ElemType
	}
	if kind == "enum" {
		return famEnum
	}
	name = strings.TrimSuffix(name, "[]")
	if i, j := strings.IndexByte(name, '('), strings.IndexByte(name, ')'); i >= 0 && j > i {
		name = name[:i] + name[j+1:]
	}
	switch name {
	case "text", "character varying", "character", "bpchar", "name", `"char"`:
		return famText
	case "smallint", "integer", "bigint":
		return famInt
	case "numeric", "real", "double precision":
		return famNumber
	case "boolean":
		return famBool
	case "date":
		return famDate
	case "timestamp without time zone", "timestamp with time zone":
		return famStamp
	case "time without time zone", "time with time zone", "interval":
		return famTime
	case "uuid":
		return famUUID
	case "inet", "cidr":
		return famNet
	case "macaddr", "macaddr8":
		return famMac
	case "bytea":
		return famBytes
	case "json", "jsonb", "xml":
		return famJSON
	}
	if strings.HasSuffix(name, "citext") {
		return famText
	}
	return famOther
}

func isArray(c *postgres.Column) bool { return c.ElemOID != 0 }

// concept is one thing that a column's name can say, in English, French and German and some
// words of other languages of the region.
type concept struct {
	what     string // for why
	category law.Category
	trait    law.Trait
	families []family
	terms    []string
}

var (
	textual  = []family{famText, famEnum, famOther}
	anything = []family(nil)
)

// aSecret names what a shape cannot overrule: hashes of passwords look like device tokens.
const aSecret = "a secret"

// concepts, the most telling first: the first that fits decides.
var concepts = []concept{
	{aSecret, law.Identifier, law.NoTrait, []family{famText, famBytes}, []string{"password", "passwd", "pwd", "passwordhash", "encryptedpassword", "motdepasse", "mdp", "passwort", "kennwort", "salt", "secret", "otp", "totp", "pin", "contrasena"}},
	{"health", law.Special, law.NoTrait, anything, []string{"health", "diagnosis", "disease", "medical", "medication", "allergy", "allergies", "disability", "bloodtype", "bloodgroup", "pregnant", "sante", "maladie", "diagnostic", "handicap", "gesundheit", "krankheit", "diagnose", "behinderung", "blutgruppe"}},
	{"belief, origin, orientation or union membership", law.Special, law.NoTrait, anything, []string{"religion", "religious", "faith", "ethnicity", "ethnic", "race", "politics", "political", "party", "sexualorientation", "orientation", "union", "unionmember", "croyance", "ethnie", "syndicat", "konfession", "ethnie", "gewerkschaft", "partei", "biometric", "fingerprintdata", "genetic", "dna", "criminal", "conviction"}},
	{"gender, kept back as if it were special", law.Special, law.NoTrait, anything, []string{"gender", "sex", "sexe", "civilite", "geschlecht", "anrede", "salutation"}},
	{"a birth date", law.Behaviour, law.Birth, []family{famDate, famStamp, famText, famInt}, []string{"birth", "birthday", "birthdate", "dateofbirth", "dob", "born", "yearofbirth", "birthyear", "naissance", "datenaissance", "datenaiss", "ddn", "geburt", "geburtsdatum", "geburtstag", "gebdat", "gebdatum", "geburtsjahr", "nacimiento", "nascita", "geboortedatum", "fodselsdato"}},
	{"an age", law.Behaviour, law.Birth, []family{famInt}, []string{"age", "alter"}},
	{"an e-mail address", law.Contact, law.NoTrait, []family{famText}, []string{"email", "mail", "emailaddress", "courriel", "mel", "adressemail", "emailadresse", "correo"}},
	{"a phone number", law.Contact, law.NoTrait, []family{famText, famInt, famNumber}, []string{"phone", "telephone", "tel", "mobile", "cell", "cellphone", "gsm", "fax", "msisdn", "whatsapp", "portable", "telefon", "telefonnummer", "telefonnr", "handy", "mobil", "mobilnummer", "rufnummer", "telefono", "telefoon"}},
	{"an official number", law.Identifier, law.NoTrait, textualAnd(famInt), []string{"ssn", "socialsecurity", "nationalid", "passport", "idcard", "taxid", "vatid", "nir", "numerosecu", "insee", "passeport", "cni", "steuernummer", "steuerid", "svnr", "ausweis", "personalausweis", "reisepass", "personnummer", "fodselsnummer", "bsn", "dni", "nif", "codicefiscale", "licenseplate", "driverlicense"}},
	{"a bank or card number", law.Financial, law.NoTrait, textualAnd(famInt), []string{"iban", "bic", "swift", "bban", "accountnumber", "bankaccount", "kontonummer", "kontonr", "blz", "rib", "cardnumber", "creditcard", "ccnumber", "ccnum", "cvv", "cvc", "cardlast4", "last4", "kreditkarte", "cartebancaire"}},
	{"money", law.Financial, law.NoTrait, []family{famInt, famNumber, famOther}, []string{"amount", "salary", "income", "balance", "credit", "wage", "debt", "limit", "creditlimit", "price", "unitprice", "total", "subtotal", "totalprice", "montant", "salaire", "revenu", "solde", "prix", "betrag", "gehalt", "einkommen", "saldo", "preis", "umsatz", "cost", "fee", "freight", "discount", "tax", "commission"}},
	{"a network address", law.Device, law.NoTrait, []family{famText, famNet}, []string{"ip", "ipaddress", "ipaddr", "ipv4", "ipv6", "remoteaddr", "remoteip", "adresseip", "ipadresse", "clientip", "signupip", "lastip", "currentsigninip", "lastsigninip"}},
	{"a device or a session", law.Device, law.NoTrait, textualAnd(famUUID, famMac, famBytes), []string{"useragent", "device", "deviceid", "imei", "imsi", "idfa", "gaid", "udid", "macaddress", "cookie", "fingerprint", "session", "sessionid", "sessionkey", "sessiontoken", "token", "pushtoken", "apikey", "accesskey", "refreshtoken", "browser", "appareil", "gerat", "geraet", "sitzung", "jeton"}},
	{"a position on the map", law.Location, law.NoTrait, []family{famNumber, famText, famOther, famInt}, []string{"latitude", "longitude", "lat", "lng", "lon", "geo", "geom", "geolocation", "coordinates", "coords", "gps", "position", "breitengrad", "langengrad"}},
	{"a country", law.Location, law.Residence, textual, []string{"country", "countrycode", "countryiso", "residence", "nation", "pays", "codepays", "land", "landcode", "laendercode", "wohnsitzland", "pais", "paese"}},
	{"a postcode", law.Location, law.NoTrait, textualAnd(famInt), []string{"zip", "zipcode", "postcode", "postalcode", "postal", "codepostal", "cp", "plz", "postleitzahl", "postnr", "cap"}},
	{"a place", law.Location, law.NoTrait, textual, []string{"city", "town", "region", "state", "province", "county", "district", "location", "ville", "commune", "departement", "stadt", "ort", "wohnort", "bundesland", "gemeinde", "bezirk", "ciudad", "citta", "place", "timezone", "lieu"}},
	{"a street address", law.Contact, law.NoTrait, textual, []string{"address", "addr", "address1", "address2", "addressline", "street", "streetaddress", "housenumber", "adresse", "rue", "voie", "strasse", "str", "hausnummer", "hausnr", "anschrift", "direccion", "indirizzo"}},
	{"a person's name", law.Identifier, law.NoTrait, []family{famText}, []string{"firstname", "fname", "forename", "givenname", "lastname", "lname", "surname", "familyname", "middlename", "maidenname", "fullname", "displayname", "nickname", "screenname", "realname", "contactname", "username", "login", "loginname", "handle", "prenom", "nomfamille", "nomnaissance", "nomcomplet", "pseudo", "pseudonyme", "identifiant", "vorname", "nachname", "familienname", "geburtsname", "benutzername", "anzeigename", "nombre", "apellido", "cognome", "voornaam", "achternaam", "recipientname", "cardholder", "kontoinhaber", "titulaire"}},
	{"a picture or a file", law.Content, law.NoTrait, textualAnd(famBytes, famJSON), []string{"photo", "avatar", "picture", "image", "portrait", "selfie", "attachment", "file", "filename", "bild", "foto", "fichier", "datei", "anhang"}},
	{"something written", law.Content, law.Typed, textualAnd(famJSON), []string{"body", "message", "comment", "comments", "content", "bio", "biography", "about", "note", "notes", "remark", "remarks", "review", "feedback", "answer", "question", "reply", "post", "subject", "headline", "text", "caption", "description", "search", "query", "keywords", "transcript", "reason", "commentaire", "remarque", "contenu", "texte", "sujet", "avis", "nachricht", "bemerkung", "kommentar", "inhalt", "betreff", "anmerkung", "notiz", "beschreibung", "suche"}},
}

func textualAnd(more ...family) []family {
	return append([]family{famText, famEnum, famOther}, more...)
}

// conceptOf finds what a column's name says, nil for nothing.
func conceptOf(c *postgres.Column) *concept {
	f := familyOf(c)
	for i := range concepts {
		k := &concepts[i]
		fits := len(k.families) == 0 && f != famStamp && f != famBool
		for _, have := range k.families {
			fits = fits || have == f
		}
		if fits && named(c.Name, k.terms) {
			return k
		}
	}
	return nil
}
