"""Hand-written general knowledge, one compact table per kind of thing.

Flows in: nothing. Flows out: text tables, one thing in each line. ``|`` separates columns, ``;`` separates
values. `make_sample.py` turns the tables into the layout of Wikidata's JSON dump. They were written for this
example: round numbers, well-known facts, no copy of Wikidata.
"""

from __future__ import annotations

# property id | English label | datatype
PROPERTIES = """
P17 | country | wikibase-item
P30 | continent | wikibase-item
P31 | instance of | wikibase-item
P36 | capital | wikibase-item
P37 | official language | wikibase-item
P61 | discoverer or inventor | wikibase-item
P101 | field of work | wikibase-item
P138 | named after | wikibase-item
P206 | located in or next to body of water | wikibase-item
P225 | taxon name | string
P246 | element symbol | string
P279 | subclass of | wikibase-item
P282 | writing system | wikibase-item
P287 | designed by | wikibase-item
P397 | parent astronomical body | wikibase-item
P403 | mouth of the watercourse | wikibase-item
P569 | date of birth | time
P570 | date of death | time
P571 | inception | time
P575 | time of discovery or invention | time
P1082 | population | quantity
P1086 | atomic number | quantity
P1705 | native label | monolingualtext
P1843 | taxon common name | monolingualtext
P2043 | length | quantity
P2044 | elevation above sea level | quantity
P2120 | radius | quantity
P2146 | orbital period | quantity
P4552 | mountain range | wikibase-item
"""

# country | continent | capital | official languages | population in millions | native label
COUNTRIES = """
France | Europe | Paris | French | 68 | fr:France
Germany | Europe | Berlin | German | 84 | de:Deutschland
Italy | Europe | Rome | Italian | 59 | it:Italia
Spain | Europe | Madrid | Spanish | 48 | es:España
Portugal | Europe | Lisbon | Portuguese | 10 | pt:Portugal
Netherlands | Europe | Amsterdam | Dutch | 18 | nl:Nederland
Belgium | Europe | Brussels | Dutch; French; German | 12 |
Austria | Europe | Vienna | German | 9 | de:Österreich
Switzerland | Europe | Bern | German; French; Italian | 9 |
Poland | Europe | Warsaw | Polish | 38 | pl:Polska
Czechia | Europe | Prague | Czech | 11 | cs:Česko
Hungary | Europe | Budapest | Hungarian | 10 | hu:Magyarország
Greece | Europe | Athens | Greek | 10 | el:Ελλάδα
Croatia | Europe | Zagreb | Croatian | 4 |
Romania | Europe | Bucharest | Romanian | 19 |
Ukraine | Europe | Kyiv | Ukrainian |  |
Russia | Europe | Moscow | Russian | 144 |
Sweden | Europe | Stockholm | Swedish | 11 | sv:Sverige
Norway | Europe | Oslo | Norwegian | 6 |
Denmark | Europe | Copenhagen | Danish | 6 | da:Danmark
Finland | Europe | Helsinki | Finnish; Swedish | 6 | fi:Suomi
Ireland | Europe | Dublin | Irish; English | 5 |
United Kingdom | Europe | London | English | 68 | en:United Kingdom
Turkey | Asia | Ankara | Turkish | 85 |
Iran | Asia | Tehran | Persian | 89 |
Pakistan | Asia | Islamabad | Urdu; English | 240 |
India | Asia | New Delhi | Hindi; English | 1430 |
Nepal | Asia | Kathmandu | Nepali | 30 |
Bangladesh | Asia | Dhaka | Bengali | 170 |
China | Asia | Beijing | Mandarin Chinese | 1410 |
Mongolia | Asia | Ulaanbaatar | Mongolian | 3 |
Japan | Asia | Tokyo | Japanese | 124 | ja:日本
South Korea | Asia | Seoul | Korean | 52 |
Vietnam | Asia | Hanoi | Vietnamese | 100 |
Thailand | Asia | Bangkok | Thai | 70 |
Indonesia | Asia | Jakarta | Indonesian | 280 |
Egypt | Africa | Cairo | Arabic | 110 |
Morocco | Africa | Rabat | Arabic | 37 |
Nigeria | Africa | Abuja | English | 220 |
Ghana | Africa | Accra | English | 33 |
Kenya | Africa | Nairobi | Swahili; English | 55 |
Tanzania | Africa | Dodoma | Swahili; English | 65 |
Ethiopia | Africa | Addis Ababa | Amharic | 120 |
Canada | North America | Ottawa | English; French | 40 | en:Canada
United States | North America | Washington | English | 335 | en:United States of America
Mexico | North America | Mexico City | Spanish | 130 | es:México
Brazil | South America | Brasilia | Portuguese | 210 | pt:Brasil
Argentina | South America | Buenos Aires | Spanish | 46 |
Chile | South America | Santiago | Spanish | 20 | es:Chile
Peru | South America | Lima | Spanish | 34 |
Colombia | South America | Bogota | Spanish | 52 |
Ecuador | South America | Quito | Spanish | 18 |
Australia | Oceania | Canberra | English | 27 | en:Australia
New Zealand | Oceania | Wellington | English; Maori | 5 | mi:Aotearoa
"""

# city | country (capitals take theirs from the table above) | water beside it
CITIES = """
Paris | | Seine
Berlin | |
Rome | |
Madrid | |
Lisbon | | Tagus
Amsterdam | |
Brussels | |
Vienna | | Danube
Bern | |
Warsaw | | Vistula
Prague | |
Budapest | | Danube
London | | Thames
Cairo | | Nile
Kyiv | | Dnieper
Washington | |
Hamburg | Germany | Elbe
Dresden | Germany | Elbe
Munich | Germany |
Cologne | Germany | Rhine
Basel | Switzerland | Rhine
Zurich | Switzerland |
Geneva | Switzerland | Rhone
Lyon | France | Rhone
Marseille | France | Mediterranean Sea
Barcelona | Spain | Mediterranean Sea
Zaragoza | Spain | Ebro
Milan | Italy |
Turin | Italy | Po
Naples | Italy | Mediterranean Sea
Porto | Portugal | Atlantic Ocean
Rotterdam | Netherlands | Rhine
Krakow | Poland | Vistula
Gdansk | Poland | Baltic Sea
Gothenburg | Sweden |
Istanbul | Turkey | Black Sea
Volgograd | Russia | Volga
Mumbai | India | Arabian Sea
Varanasi | India | Ganges
Shanghai | China | East China Sea
Wuhan | China | Yangtze
Osaka | Japan |
Kyoto | Japan |
Lagos | Nigeria | Atlantic Ocean
Alexandria | Egypt | Mediterranean Sea
Toronto | Canada |
Montreal | Canada |
New York City | United States | Atlantic Ocean
New Orleans | United States | Mississippi
San Francisco | United States | Pacific Ocean
Rio de Janeiro | Brazil | Atlantic Ocean
Manaus | Brazil | Amazon
Sydney | Australia | Pacific Ocean
Melbourne | Australia |
Auckland | New Zealand | Pacific Ocean
"""

# river | length in kilometres | mouth | countries
RIVERS = """
Nile | 6650 | Mediterranean Sea | Egypt; Ethiopia
Amazon | 6400 | Atlantic Ocean | Peru; Colombia; Brazil
Yangtze | 6300 | East China Sea | China
Yellow River | 5460 | Bohai Sea | China
Mississippi | 3770 | Gulf of Mexico | United States
Rio Grande | 3050 | Gulf of Mexico | United States; Mexico
Colorado River | 2330 | Gulf of California | United States; Mexico
Yukon | 3190 | Bering Sea | Canada; United States
Mackenzie | 1740 | Arctic Ocean | Canada
Volga | 3530 | Caspian Sea | Russia
Danube | 2850 | Black Sea | Germany; Austria; Hungary; Romania
Dnieper | 2200 | Black Sea | Russia; Ukraine
Rhine | 1230 | North Sea | Switzerland; Germany; Netherlands
Elbe | 1090 | North Sea | Czechia; Germany
Thames | 346 | North Sea | United Kingdom
Vistula | 1047 | Baltic Sea | Poland
Loire | 1006 | Atlantic Ocean | France
Seine | 777 | English Channel | France
Rhone | 812 | Mediterranean Sea | Switzerland; France
Ebro | 930 | Mediterranean Sea | Spain
Tagus | 1007 | Atlantic Ocean | Spain; Portugal
Po | 652 | Adriatic Sea | Italy
Shannon | 360 | Atlantic Ocean | Ireland
Indus | 3180 | Arabian Sea | China; India; Pakistan
Ganges | 2525 | Bay of Bengal | India; Bangladesh
Mekong | 4350 | South China Sea | China; Thailand; Vietnam
Orinoco | 2140 | Atlantic Ocean | Colombia
Niger | 4180 | Atlantic Ocean | Nigeria
Waikato | 425 | Tasman Sea | New Zealand
"""

# mountain | elevation in metres | range | countries
MOUNTAINS = """
Mount Everest | 8849 | Himalayas | Nepal; China
K2 | 8611 | Karakoram | Pakistan; China
Kangchenjunga | 8586 | Himalayas | Nepal; India
Annapurna | 8091 | Himalayas | Nepal
Damavand | 5610 | Alborz | Iran
Mount Fuji | 3776 | | Japan
Aconcagua | 6961 | Andes | Argentina
Huascaran | 6768 | Andes | Peru
Chimborazo | 6263 | Andes | Ecuador
Denali | 6190 | Alaska Range | United States
Mount Logan | 5959 | Saint Elias Mountains | Canada
Kilimanjaro | 5895 | | Tanzania
Mount Kenya | 5199 | | Kenya
Toubkal | 4167 | Atlas Mountains | Morocco
Mont Blanc | 4806 | Alps | France; Italy
Matterhorn | 4478 | Alps | Switzerland; Italy
Grossglockner | 3798 | Alps | Austria
Zugspitze | 2962 | Alps | Germany; Austria
Mulhacen | 3479 | Sierra Nevada | Spain
Teide | 3715 | | Spain
Mount Olympus | 2918 | | Greece
Ben Nevis | 1345 | Grampian Mountains | United Kingdom
Aoraki | 3724 | Southern Alps | New Zealand
Mount Kosciuszko | 2228 | Great Dividing Range | Australia
"""

# element | symbol | atomic number | discoverers | year of discovery
ELEMENTS = """
hydrogen | H | 1 | Henry Cavendish | 1766
helium | He | 2 | | 1868
lithium | Li | 3 | | 1817
beryllium | Be | 4 | | 1798
boron | B | 5 | Humphry Davy | 1808
carbon | C | 6 | |
nitrogen | N | 7 | | 1772
oxygen | O | 8 | Carl Wilhelm Scheele; Joseph Priestley | 1774
fluorine | F | 9 | | 1886
neon | Ne | 10 | William Ramsay | 1898
sodium | Na | 11 | Humphry Davy | 1807
magnesium | Mg | 12 | | 1755
aluminium | Al | 13 | | 1825
silicon | Si | 14 | Jons Jacob Berzelius | 1824
phosphorus | P | 15 | | 1669
sulfur | S | 16 | |
chlorine | Cl | 17 | Carl Wilhelm Scheele | 1774
argon | Ar | 18 | William Ramsay | 1894
potassium | K | 19 | Humphry Davy | 1807
calcium | Ca | 20 | Humphry Davy | 1808
chromium | Cr | 24 | | 1797
manganese | Mn | 25 | | 1774
iron | Fe | 26 | |
nickel | Ni | 28 | | 1751
copper | Cu | 29 | |
zinc | Zn | 30 | |
krypton | Kr | 36 | William Ramsay | 1898
silver | Ag | 47 | |
iodine | I | 53 | | 1811
xenon | Xe | 54 | William Ramsay | 1898
caesium | Cs | 55 | Robert Bunsen | 1860
platinum | Pt | 78 | |
gold | Au | 79 | |
mercury | Hg | 80 | |
lead | Pb | 82 | |
polonium | Po | 84 | Marie Curie | 1898
radium | Ra | 88 | Marie Curie | 1898
uranium | U | 92 | | 1789
plutonium | Pu | 94 | Glenn Seaborg | 1940
"""

# body | kind | goes round | orbital period in days | radius in kilometres | discoverer | year of discovery
SKY = """
Sun | star | | | 695700 | |
Mercury | planet | Sun | 88 | 2440 | |
Venus | planet | Sun | 225 | 6052 | |
Earth | planet | Sun | 365 | 6371 | |
Mars | planet | Sun | 687 | 3390 | |
Jupiter | planet | Sun | 4333 | 69911 | |
Saturn | planet | Sun | 10759 | 58232 | |
Uranus | planet | Sun | 30687 | 25362 | William Herschel | 1781
Neptune | planet | Sun | 60190 | 24622 | | 1846
Pluto | dwarf planet | Sun | 90560 | 1188 | Clyde Tombaugh | 1930
Ceres | dwarf planet | Sun | 1682 | 473 | | 1801
Moon | moon | Earth | 27 | 1737 | |
Phobos | moon | Mars | | 11 | | 1877
Deimos | moon | Mars | | 6 | | 1877
Io | moon | Jupiter | | 1822 | Galileo Galilei | 1610
Europa | moon | Jupiter | | 1561 | Galileo Galilei | 1610
Ganymede | moon | Jupiter | 7 | 2634 | Galileo Galilei | 1610
Callisto | moon | Jupiter | 17 | 2410 | Galileo Galilei | 1610
Titan | moon | Saturn | 16 | 2575 | Christiaan Huygens | 1655
Enceladus | moon | Saturn | | 252 | William Herschel | 1789
Titania | moon | Uranus | 9 | 788 | William Herschel | 1787
Oberon | moon | Uranus | 13 | 761 | William Herschel | 1787
Triton | moon | Neptune | 6 | 1353 | | 1846
"""

# person | field of work | born | died
PEOPLE = """
Aristotle | philosophy | -384 | -322
Archimedes | mathematics; physics | | -212
Nicolaus Copernicus | astronomy | 1473-02-19 | 1543-05-24
Galileo Galilei | astronomy; physics | 1564-02-15 | 1642-01-08
Johannes Kepler | astronomy | 1571-12-27 | 1630-11-15
Christiaan Huygens | physics; astronomy | 1629-04-14 | 1695-07-08
Isaac Newton | physics; mathematics | 1643-01-04 | 1727-03-31
Leonhard Euler | mathematics | 1707-04-15 | 1783-09-18
Carl Linnaeus | biology | 1707-05-23 | 1778-01-10
Henry Cavendish | chemistry; physics | 1731-10-10 | 1810-02-24
Joseph Priestley | chemistry | 1733 | 1804-02-06
William Herschel | astronomy | 1738-11-15 | 1822-08-25
Carl Wilhelm Scheele | chemistry | 1742-12-09 | 1786-05-21
Antoine Lavoisier | chemistry | 1743-08-26 | 1794-05-08
Caroline Herschel | astronomy | 1750-03-16 | 1848-01-09
Alexander von Humboldt | geography | 1769-09-14 | 1859-05-06
Carl Friedrich Gauss | mathematics | 1777-04-30 | 1855-02-23
Humphry Davy | chemistry | 1778-12-17 | 1829-05-29
Jons Jacob Berzelius | chemistry | 1779-08-20 | 1848-08-07
Michael Faraday | physics; chemistry | 1791-09-22 | 1867-08-25
Charles Darwin | biology | 1809-02-12 | 1882-04-19
Robert Bunsen | chemistry | 1811 | 1899-08-16
Ada Lovelace | mathematics | 1815-12-10 | 1852-11-27
Gregor Mendel | biology | 1822-07-20 | 1884-01-06
Louis Pasteur | biology; chemistry | 1822-12-27 | 1895-09-28
James Clerk Maxwell | physics | 1831-06-13 | 1879-11-05
Dmitri Mendeleev | chemistry | 1834-02-08 | 1907-02-02
William Ramsay | chemistry | 1852-10-02 | 1916-07-23
Max Planck | physics | 1858-04-23 | 1947-10-04
Marie Curie | physics; chemistry | 1867-11-07 | 1934-07-04
Lise Meitner | physics | 1878-11-07 | 1968-10-27
Albert Einstein | physics | 1879-03-14 | 1955-04-18
Alexander Fleming | biology | 1881-08-06 | 1955-03-11
Emmy Noether | mathematics | 1882-03-23 | 1935-04-14
Niels Bohr | physics | 1885-10-07 | 1962-11-18
Erwin Schrodinger | physics | 1887-08-12 | 1961-01-04
Srinivasa Ramanujan | mathematics | 1887-12-22 | 1920-04-26
Edwin Hubble | astronomy | 1889-11-20 | 1953-09-28
Enrico Fermi | physics | 1901-09-29 | 1954-11-28
Werner Heisenberg | physics | 1901-12-05 | 1976-02-01
Barbara McClintock | biology | 1902-06-16 | 1992-09-02
Paul Dirac | physics | 1902-08-08 | 1984-10-20
John von Neumann | mathematics; computer science | 1903-12-28 | 1957-02-08
Clyde Tombaugh | astronomy | 1906-02-04 | 1997-01-17
Kurt Godel | mathematics | 1906-04-28 | 1978-01-14
Grace Hopper | computer science | 1906-12-09 | 1992-01-01
Glenn Seaborg | chemistry | 1912-04-19 | 1999-02-25
Alan Turing | computer science; mathematics | 1912-06-23 | 1954-06-07
Claude Shannon | mathematics | 1916-04-30 | 2001-02-24
Richard Feynman | physics | 1918-05-11 | 1988-02-15
Rosalind Franklin | chemistry; biology | 1920-07-25 | 1958-04-16
John Backus | computer science | 1924-12-03 | 2007-03-17
John McCarthy | computer science | 1927-09-04 | 2011-10-24
Niklaus Wirth | computer science | 1934-02-15 | 2024-01-01
Dennis Ritchie | computer science | 1941-09-09 | 2011-10-12
Guido van Rossum | computer science | |
Bjarne Stroustrup | computer science | |
"""

# language | family | writing system
LANGUAGES = """
French | Romance language | Latin script
Italian | Romance language | Latin script
Spanish | Romance language | Latin script
Portuguese | Romance language | Latin script
Romanian | Romance language | Latin script
English | Germanic language | Latin script
German | Germanic language | Latin script
Dutch | Germanic language | Latin script
Swedish | Germanic language | Latin script
Danish | Germanic language | Latin script
Norwegian | Germanic language | Latin script
Polish | Slavic language | Latin script
Czech | Slavic language | Latin script
Croatian | Slavic language | Latin script
Russian | Slavic language | Cyrillic script
Ukrainian | Slavic language | Cyrillic script
Hindi | Indo-Aryan language | Devanagari
Nepali | Indo-Aryan language | Devanagari
Bengali | Indo-Aryan language | Bengali script
Urdu | Indo-Aryan language | Arabic script
Persian | Iranian language | Arabic script
Arabic | Semitic language | Arabic script
Amharic | Semitic language | Ethiopic script
Hungarian | Uralic language | Latin script
Finnish | Uralic language | Latin script
Greek | Indo-European language | Greek alphabet
Irish | Celtic language | Latin script
Turkish | Turkic language | Latin script
Swahili | Bantu language | Latin script
Indonesian | Austronesian language | Latin script
Maori | Austronesian language | Latin script
"""

# programming language | designers | first year | named after
PROGRAMMING_LANGUAGES = """
Fortran | John Backus | 1957 |
Lisp | John McCarthy | 1958 |
COBOL | | 1959 |
BASIC | | 1964 |
Pascal | Niklaus Wirth | 1970 |
C | Dennis Ritchie | 1972 |
Prolog | | 1972 |
SQL | | 1974 |
Ada | | 1980 | Ada Lovelace
C++ | Bjarne Stroustrup | 1985 |
Perl | | 1987 |
Haskell | | 1990 |
Python | Guido van Rossum | 1991 |
R | | 1993 |
Java | | 1995 |
JavaScript | | 1995 |
Ruby | | 1995 |
Go | | 2009 |
Julia | | 2012 |
"""

# animal | taxon name | kind | other common names
ANIMALS = """
blue whale | Balaenoptera musculus | mammal |
killer whale | Orcinus orca | mammal | orca
lion | Panthera leo | mammal |
tiger | Panthera tigris | mammal |
cougar | Puma concolor | mammal | puma; mountain lion
wolf | Canis lupus | mammal | grey wolf
red fox | Vulpes vulpes | mammal |
brown bear | Ursus arctos | mammal |
polar bear | Ursus maritimus | mammal |
giant panda | Ailuropoda melanoleuca | mammal | panda bear
Asian elephant | Elephas maximus | mammal |
hippopotamus | Hippopotamus amphibius | mammal | hippo
platypus | Ornithorhynchus anatinus | mammal |
koala | Phascolarctos cinereus | mammal |
house mouse | Mus musculus | mammal |
golden eagle | Aquila chrysaetos | bird |
emperor penguin | Aptenodytes forsteri | bird |
barn owl | Tyto alba | bird |
house sparrow | Passer domesticus | bird |
common raven | Corvus corax | bird | northern raven
king cobra | Ophiophagus hannah | reptile |
Komodo dragon | Varanus komodoensis | reptile | Komodo monitor
green sea turtle | Chelonia mydas | reptile |
common frog | Rana temporaria | amphibian | grass frog
Atlantic salmon | Salmo salar | fish |
great white shark | Carcharodon carcharias | fish | white shark
western honey bee | Apis mellifera | insect |
monarch butterfly | Danaus plexippus | insect |
"""
