"""Two hundred texts of all sorts that people embed, or send by mistake."""

PLAIN = """
A cuckoo lays its eggs in the nests of other birds.
Reed warblers often raise a chick that is not their own.
The bird that sings at noon is rarely the one that sings at dawn.
How long does it take to boil an egg at high altitude?
What is the capital of Mongolia?
My order arrived broken and I would like my money back.
The invoice is due within thirty days of delivery.
Interest rates rose by a quarter of a point on Thursday.
She bought three apples, two pears and a loaf of bread.
The train to Leeds leaves from platform seven at 18:42.
Please restart the router and wait until the light is green.
Our flight was cancelled because of fog over the airport.
The committee postponed its decision until the spring.
He has played the cello since he was six years old.
Nobody expected the small team to win the championship.
The old mill by the river was turned into a museum.
Heavy rain is expected in the north, with snow on higher ground.
The patient complained of headaches and blurred vision.
Take two tablets after meals, and do not drive.
A contract needs an offer, an acceptance and consideration.
Photosynthesis turns light, water and carbon dioxide into sugar.
The speed of light in vacuum is 299,792,458 metres a second.
Water boils at a lower temperature on a mountain.
Plate tectonics explains why earthquakes cluster in belts.
The mitochondrion is the powerhouse of the cell.
An enzyme lowers the energy that a reaction needs to start.
Dark matter has never been seen directly.
Prime numbers thin out, but they never end.
The derivative of a constant is zero.
Every even number greater than two may be a sum of two primes.
Knead the dough for ten minutes and let it rest overnight.
Add the garlic last, or it will burn and taste bitter.
This soup needs salt, lemon and a little patience.
The best coffee in town is sold from a van.
The hotel was clean, but the walls were thin.
Five stars! The guide knew every stone of the castle.
Worst purchase I have ever made; it broke after a day.
It does what it says, no more and no less.
The film is too long by half an hour and far too loud.
I could not put the book down until four in the morning.
The novel follows three sisters through one long winter.
Painting with light was the obsession of his last years.
The symphony ends on a chord that never resolves.
Voters go to the polls on Sunday in a closely watched election.
The treaty was signed in 1648 and ended thirty years of war.
Parliament rejected the bill by a margin of four votes.
The factory closed, and with it went two thousand jobs.
A new bridge will connect the two halves of the city.
Wind and sun now supply a third of the country's power.
The glacier has retreated by a mile within my lifetime.
Bees are not the only insects that pollinate crops.
Wolves have returned to the forests of the west.
The lighthouse keeper wrote down the weather every hour.
Two dogs are running over a wet beach.
A man is playing a guitar on a stage.
A woman is slicing an onion in a kitchen.
Someone is pouring water into a glass.
Children are playing football in the park.
Kids kick a ball around on the grass.
A cat sleeps on a warm laptop.
The laptop is warm because a cat sleeps on it.
The laptop is not warm, and no cat sleeps on it.
I never said she stole my money.
Time flies like an arrow; fruit flies like a banana.
The horse raced past the barn fell.
Buffalo buffalo Buffalo buffalo buffalo buffalo Buffalo buffalo.
To be, or not to be, that is the question.
All happy families are alike.
It was a bright cold day in April.
Is it going to rain tomorrow?
Will I need an umbrella tomorrow?
Turn off the lights in the living room.
Remind me to call my mother at five.
Translate good morning into French.
Summarise this in one sentence.
Which of these plans is the cheapest?
Where can I change my password?
I forgot my password and cannot sign in.
The parcel was left with a neighbour.
Thanks, that solved it!
No.
Yes, of course.
ok
hm
""".strip().split("\n")

LANGUAGES = """
Der Kuckuck legt seine Eier in fremde Nester.
Wo ist der nächste Bahnhof, bitte?
Straßenbahnen fahren größtenteils elektrisch.
Le coucou pond ses œufs dans le nid des autres.
Où se trouve la gare la plus proche, s'il vous plaît ?
El cuco pone sus huevos en nidos ajenos. ¿Verdad?
¡Qué bonito día hace hoy en la montaña!
Il cuculo depone le uova nei nidi altrui, perché no?
O cuco não constrói o próprio ninho; a mãe voa embora.
Gjøken legger egg i andres reir.
Göken ropar i skogen på våren.
Käki kukkuu kesäkuussa metsän reunassa.
Kukułka składa jaja w cudzych gniazdach, źdźbło trawy.
Kukačka klade vejce do cizích hnízd. Příliš žluťoučký kůň.
A kakukk más madarak fészkébe tojik, árvíztűrő tükörfúrógép.
Guguk kuşu yumurtasını başka yuvalara bırakır. İstanbul ılık.
Ο κούκος γεννά τα αυγά του σε ξένες φωλιές.
Кукушка подкидывает яйца в чужие гнёзда.
Де найближча зупинка? Їжак їсть яблуко.
הקוקייה מטילה ביצים בקנים של אחרים
يضع الوقواق بيضه في أعشاش الطيور الأخرى
فاخته تخم خود را در لانه دیگران می‌گذارد
कोयल दूसरे पक्षियों के घोंसले में अंडे देती है।
কোকিল অন্য পাখির বাসায় ডিম পাড়ে
குயில் மற்ற பறவைகளின் கூட்டில் முட்டையிடும்
นกคัคคูวางไข่ในรังของนกอื่น
Chim cu cu đẻ trứng vào tổ chim khác.
杜鹃把蛋产在别的鸟的巢里。
最近的火车站在哪里?
郭公は他の鳥の巣に卵を産む。
駅はどこですか。カタカナとﾊﾝｶｸ。
뻐꾸기는 다른 새의 둥지에 알을 낳는다.
ከሁሉም ወፎች ኩኩ ይለያል
კუკუ სხვის ბუდეში დებს კვერცხს
Կկուն ձվադրում է ուրիշի բնում
Tha a' chuthag a' breith uighean ann an neadan eile.
Cuckoo on saabunud, ööülikool õhtul.
""".strip().split("\n")

CODE = [
    "fn main() { println!(\"{}\", 6 * 7); }",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "SELECT name, count(*) FROM birds WHERE nest IS NULL GROUP BY name HAVING count(*) > 3;",
    "for (let i = 0; i < n; i++) { total += prices[i] ?? 0; }",
    "#include <stdio.h>\nint main(void) { return puts(\"cuckoo\") < 0; }",
    "git rebase -i HEAD~3 && git push --force-with-lease",
    "curl -sS -X POST http://127.0.0.1:8480/v1/embeddings -d '{\"input\": \"a\"}'",
    "{\"id\": 7, \"tags\": [\"a\", \"b\"], \"nested\": {\"x\": null, \"y\": -1.5e-3}}",
    "<div class=\"nest\"><p>egg &amp; chick</p></div>",
    "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\nZeroDivisionError: division by zero",
    "x = [i**2 for i in range(10) if i % 2 == 0]  # squares",
    "^(?:[a-z0-9]+\\.)+[a-z]{2,}$",
    "0x47EC8202018447B424C8F6B4f6e5b603Be0c35CD",
    "E = mc^2, \\int_0^\\infty e^{-x^2} dx = \\frac{\\sqrt{\\pi}}{2}",
    "ssh -L 8080:localhost:80 user@example.com",
    "| bird | eggs |\n|---|---|\n| cuckoo | 9 |",
]

ODD = [
    "",
    " ",
    "\n\n\t\n",
    "a",
    "Z",
    "7",
    ".",
    "?!?!?!",
    "...",
    "-----",
    "42",
    "3.14159265358979",
    "1,000,000.00",
    "2024-02-29T23:59:60Z",
    "+49 (0)30 1234-567",
    "someone@example.com",
    "https://example.com/a/b?c=d&e=f#g",
    "C:\\Users\\bird\\nest.txt",
    "🦜",
    "🦜🥚🪺 what a nest 🎉🎉🎉",
    "👩‍👩‍👧‍👦 family, 👍🏽 thumb, 🇩🇪 flag",
    "I ❤️ birds ☀️",
    "¯\\_(ツ)_/¯",
    ":-) ;-) <3",
    "ＦＵＬＬ ｗｉｄｔｈ ｔｅｘｔ １２３",
    "ﬁne ﬂow ligatures ½ ² ™ ℵ ∑ ∂ ≠ ≈",
    "Z̸̡̛a̶͝l̵͘g̷͂o̸ text",
    "e\u0301 and é are one letter",
    "naïve façade coöperate résumé Ångström",
    "zero\u200bwidth\u200bspaces\ufeff",
    "soft\u00adhyphen and no\u00a0break",
    "null\x00byte and bell\x07 and escape\x1b[31mred\x1b[0m",
    "\x01\x02\x03\x7f\x80\x9f",
    "replacement \ufffd character and private \ue000 use",
    "right \u202eto left\u202c override",
    "old 𝔊𝔬𝔱𝔥𝔦𝔠 and 𝐛𝐨𝐥𝐝 letters, 𒀀𒁹 cuneiform",
    "[CLS] [SEP] [MASK] [PAD] [UNK] as words",
    "ALL CAPITALS SHOUT LOUDLY",
    "cAmElCaSe and snake_case and kebab-case",
    "Pneumonoultramicroscopicsilicovolcanoconiosis",
    "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen",
    "a" * 99,
    "a" * 101,
    "x" * 3000,
    "ab" * 40 + " " + "ba" * 40,
    "word " * 253,
    "word " * 254,
    "word " * 255,
    "word " * 1000,
    "日本" * 200,
    "🦜" * 300,
    "!" * 700,
    " ".join(str(number) for number in range(400)),
    "A long story begins with a small bird. " * 60,
    " ".join(PLAIN[:60]),
    "\n".join(LANGUAGES),
    "\n\n".join(CODE),
    "Ends where the limit is: " + "and so on, " * 83,
    "The last word is far away. " + "nothing " * 600 + "cuckoo",
    "tabs\tbetween\tall\twords\tand  double  spaces",
    "line one\r\nline two\rline three\x0bline four\x0cline five\u2028line six\u2029",
    "\"quoted\" 'single' `back` “curly” ‘marks’ «angle» „low“",
    "a/b\\c|d~e^f%g$h#i@j&k*l(m)n[o]p{q}r<s>t=u+v-w_x:y;z",
]

SENTENCES = PLAIN + LANGUAGES + CODE + ODD
