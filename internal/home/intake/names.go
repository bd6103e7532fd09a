package intake

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// foldings turn the accented letters of European names into plain ones.
var foldings = strings.NewReplacer(
	"à", "a", "á", "a", "â", "a", "ã", "a", "ä", "a", "å", "a", "æ", "ae", "ç", "c", "č", "c", "ć", "c", "è", "e", "é", "e", "ê", "e", "ë", "e", "ę", "e",
	"ì", "i", "í", "i", "î", "i", "ï", "i", "ł", "l", "ñ", "n", "ń", "n", "ò", "o", "ó", "o", "ô", "o", "õ", "o", "ö", "o", "ø", "o", "œ", "oe",
	"š", "s", "ś", "s", "ß", "ss", "ù", "u", "ú", "u", "û", "u", "ü", "u", "ý", "y", "ÿ", "y", "ž", "z", "ż", "z")

// words splits a name into its words, small and without accents: CustomerID, customer_id and
// "Customer Id" all give customer, id.
func words(name string) []string {
	var out []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			out = append(out, foldings.Replace(strings.ToLower(b.String())))
			b.Reset()
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			flush()
			continue
		case unicode.IsUpper(r) && i > 0:
			// A capital begins a word after a small letter, and before one (IDNumber: ID, Number).
			next := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if unicode.IsLower(runes[i-1]) || unicode.IsDigit(runes[i-1]) || (unicode.IsUpper(runes[i-1]) && next) {
				flush()
			}
		}
		b.WriteRune(r)
	}
	flush()
	return out
}

// named reports whether a name says one of terms: a whole word, several words in a row
// (written as one), or, for terms of six letters and more, the end or beginning of a word.
func named(name string, terms []string) bool {
	ws := words(name)
	for i := range ws {
		joined := ""
		for j := i; j < len(ws) && j < i+4; j++ {
			joined += ws[j]
			for _, t := range terms {
				if joined == t {
					return true
				}
			}
		}
		for _, t := range terms {
			if len(t) >= 6 && (strings.HasPrefix(ws[i], t) || strings.HasSuffix(ws[i], t)) {
				return true
			}
		}
	}
	return false
}

// singular undoes the commonest plurals of English, French and German, roughly: both sides
// of a comparison go through it, so that it need only be the same for both.
func singular(word string) string {
	switch {
	case len(word) > 4 && strings.HasSuffix(word, "ies"):
		return word[:len(word)-3] + "y"
	case len(word) > 4 && (strings.HasSuffix(word, "sses") || strings.HasSuffix(word, "xes") || strings.HasSuffix(word, "ches")):
		return word[:len(word)-2]
	case word == "people":
		return "person"
	case len(word) > 3 && strings.HasSuffix(word, "s") && !strings.HasSuffix(word, "ss"):
		return word[:len(word)-1]
	case len(word) > 5 && strings.HasSuffix(word, "en"):
		return word[:len(word)-1]
	}
	return word
}

// stem is a table's name without prefixes that say nothing (tbl_, t_, app labels are kept).
func stem(name string) string {
	ws := words(name)
	for len(ws) > 1 && (ws[0] == "tbl" || ws[0] == "t" || ws[0] == "tab" || ws[0] == "dim" || ws[0] == "fact") {
		ws = ws[1:]
	}
	for i := range ws {
		ws[i] = singular(ws[i])
	}
	return strings.Join(ws, "")
}

// lastWord is the last word of a table's name in the singular: auth_user gives user.
func lastWord(name string) string {
	ws := words(name)
	if len(ws) == 0 {
		return ""
	}
	return singular(ws[len(ws)-1])
}

// fileName makes a name that keys and datasets can have out of any database's.
func fileName(database string) string {
	s := strings.Join(words(database), "_")
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return -1
	}, s)
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		s = "db_" + s
	}
	if len(s) > 50 {
		s = s[:50]
	}
	return strings.TrimRight(s, "_")
}

func validUTF8(t *postgres.Table) bool {
	if !utf8.ValidString(t.Schema) || !utf8.ValidString(t.Name.Name) {
		return false
	}
	for _, c := range t.Columns {
		if !utf8.ValidString(c.Name) {
			return false
		}
	}
	return true
}

// Names of tables that hold one row a person, strongest first by list.
var (
	personNames = []string{"user", "person", "customer", "client", "member", "account", "subscriber", "patient", "student", "citizen",
		"participant", "profile", "passenger", "guest", "player", "borrower", "resident", "subject", "individual", "consumer", "donor", "tenant",
		"utilisateur", "utilisatrice", "personne", "abonne", "membre", "adherent", "assure", "eleve", "etudiant", "compte", "usager", "particulier",
		"benutzer", "nutzer", "kunde", "kund", "mitglied", "konto", "teilnehmer", "versicherter", "schuler", "abonnent", "burger",
		"usuario", "cliente", "utente", "persona", "gebruiker", "klant", "bruker", "anvandare", "uzytkownik", "klient"}
	staffNames = []string{"employee", "staff", "contact", "personnel", "worker", "agent", "author", "salarie", "employe", "mitarbeiter", "angestellter", "lead", "applicant", "candidate"}
	// roleWords name columns that refer to a person by the part they play.
	roleWords = []string{"user", "owner", "author", "sender", "recipient", "receiver", "creator", "customer", "buyer", "seller", "member", "person",
		"follower", "followee", "friend", "inviter", "invitee", "player", "host", "guest", "uploader", "reporter", "reviewer", "assignee",
		"auteur", "proprietaire", "expediteur", "destinataire", "acheteur", "vendeur", "besitzer", "absender", "empfanger", "verfasser", "kaufer"}
	// auditWords name columns that refer to whoever handled a row, whose row it is not.
	auditWords = []string{"createdby", "updatedby", "modifiedby", "deletedby", "approvedby", "reviewedby", "changedby", "lastmodifiedby", "moderatedby",
		"creepar", "modifiepar", "erstelltvon", "geandertvon", "recipient", "recipientid", "receiverid", "destinataire", "empfanger", "toid", "touserid", "reporterid", "assigneeid", "friendid", "followeeid", "blockedid"}
)
