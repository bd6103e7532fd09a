package platform

// country is one of the platform's countries with its share of people and the numbering
// that its residents' telephone numbers, IBANs and addresses follow.
type country struct {
	code   string // ISO 3166-1 alpha-2
	weight int    // people in a thousand, roughly
	dial   string // international prefix
	iban   int    // digits after the check digits, 0 where there is no IBAN
}

// countries are 35: the region (EEA, GB, CH) has most people, some live elsewhere.
var countries = [...]country{
	{"DE", 120, "49", 18}, {"FR", 105, "33", 23}, {"IT", 85, "39", 23}, {"ES", 75, "34", 20},
	{"PL", 60, "48", 24}, {"RO", 30, "40", 20}, {"NL", 35, "31", 14}, {"BE", 25, "32", 12},
	{"SE", 25, "46", 20}, {"CZ", 22, "420", 20}, {"GR", 22, "30", 23}, {"PT", 22, "351", 21},
	{"HU", 20, "36", 24}, {"AT", 20, "43", 16}, {"DK", 16, "45", 14}, {"FI", 15, "358", 14},
	{"IE", 18, "353", 14}, {"SK", 12, "421", 20}, {"BG", 12, "359", 14}, {"HR", 10, "385", 17},
	{"LT", 8, "370", 16}, {"NO", 14, "47", 11}, {"IS", 3, "354", 22}, {"LU", 3, "352", 16},
	{"GB", 95, "44", 18}, {"CH", 25, "41", 17},
	{"US", 20, "1", 0}, {"CA", 6, "1", 0}, {"JP", 8, "81", 0}, {"CN", 4, "86", 0},
	{"SG", 3, "65", 0}, {"BR", 8, "55", 0}, {"IN", 5, "91", 0}, {"TR", 6, "90", 22},
	{"UA", 8, "380", 25},
}

// topics is the lookup table: about nobody.
var topics = [...]string{
	"music", "cooking", "football", "comedy", "science", "travel", "animals", "gardening",
	"cinema", "history", "fashion", "cycling", "chess", "languages", "crafts", "news",
}

var given = [...]string{
	"Aoife", "Bruno", "Chiara", "Dmitri", "Elsa", "Farid", "Greta", "Henrik", "Ines", "Jakub",
	"Katarzyna", "Liam", "Margit", "Nils", "Olena", "Pavel", "Quentin", "Rosa", "Sanna", "Tomas",
	"Ursula", "Viktor", "Wanda", "Xenia", "Yusuf", "Zoe", "Mei", "Kenji", "Thiago", "Priya",
}

var family = [...]string{
	"Almeida", "Bianchi", "Castro", "Dubois", "Eriksen", "Fischer", "Garcia", "Horvath", "Ionescu",
	"Jansen", "Kowalski", "Larsen", "Murphy", "Novak", "Olsen", "Papadakis", "Quinn", "Rossi",
	"Schmidt", "Toth", "Ulrich", "Virtanen", "Weber", "Yilmaz", "Zimmer", "Tanaka", "Wang", "Silva",
}

var models = [...]string{"Aster 5", "Aster 6", "Birch Mini", "Cedar One", "Cedar Pro", "Dune X", "Elm Tab"}

var systems = [...]string{"Android 14", "Android 15", "Android 16", "iOS 18", "iOS 19"}

var words = [...]string{
	"the", "lake", "was", "cold", "but", "we", "went", "anyway", "see", "you", "at", "seven", "bring",
	"bread", "and", "olives", "that", "song", "again", "my", "sister", "called", "nobody", "told",
	"train", "late", "rain", "since", "morning", "good", "luck", "tomorrow", "thanks", "for", "photos",
}
