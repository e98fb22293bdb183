//! Names that look real, put together from parts; nobody is meant.

/// Customers of each tenant.
pub(super) const CUSTOMERS: usize = 60;

/// A tenant of the demo.
pub(super) struct Tenant {
    pub(super) slug: &'static str,
    pub(super) name: &'static str,
    pub(super) locale: &'static str,
    pub(super) time_zone: &'static str,
    pub(super) region: &'static str,
    pub(super) currency: &'static str,
    /// Role and name of each; the first is the administrator.
    pub(super) people: &'static [(&'static str, &'static str)],
    /// The `n`th customer.
    pub(super) customer: fn(usize) -> Made,
}

/// What is put together for one customer.
pub(super) struct Made {
    pub(super) person: bool,
    pub(super) name: String,
    pub(super) phone: String,
    pub(super) email: String,
    pub(super) city: &'static str,
    pub(super) street: String,
    pub(super) industry: &'static str,
}

pub(super) const TENANTS: &[Tenant] = &[
    Tenant {
        slug: "mingpin",
        name: "杭州茗品茶业",
        locale: "zh-CN",
        time_zone: "Asia/Shanghai",
        region: "CN",
        currency: "CNY",
        people: &[("administrator", "陈思远"), ("manager", "王丽华"), ("sales", "李伟"), ("service", "赵敏")],
        customer: chinese,
    },
    Tenant {
        slug: "fairhaven",
        name: "Fairhaven Supplies",
        locale: "en-GB",
        time_zone: "Europe/London",
        region: "GB",
        currency: "GBP",
        people: &[
            ("administrator", "Eleanor Whitfield"),
            ("manager", "Marcus Obi"),
            ("sales", "Priya Raman"),
            ("service", "Tom Hargreaves"),
        ],
        customer: english,
    },
];

fn pick<T: Copy>(of: &[T], n: usize) -> Option<T> {
    of.get(n % of.len().max(1)).copied()
}

fn chinese(n: usize) -> Made {
    const CITIES: [(&str, &str); 6] = [
        ("杭州", "0571"),
        ("上海", "021"),
        ("宁波", "0574"),
        ("苏州", "0512"),
        ("成都", "028"),
        ("广州", "020"),
    ];
    const WORDS: [&str; 10] =
        ["西湖", "远景", "明德", "华信", "新禾", "东篱", "海纳", "云栖", "瑞丰", "正合"];
    const TRADES: [(&str, &str); 6] = [
        ("酒店管理有限公司", "酒店"),
        ("餐饮连锁有限公司", "餐饮"),
        ("贸易有限公司", "贸易"),
        ("科技股份有限公司", "科技"),
        ("食品有限公司", "食品"),
        ("文化传播有限公司", "文化"),
    ];
    const FAMILIES: [&str; 12] = ["王", "李", "张", "刘", "陈", "杨", "黄", "周", "吴", "徐", "欧阳", "林"];
    const GIVEN: [&str; 10] = ["建国", "晓燕", "子轩", "雨桐", "志强", "美玲", "浩然", "佳怡", "文博", "静"];
    let (city, area) = pick(&CITIES, n).unwrap_or_default();
    let person = n % 3 == 2;
    let (trade, industry) = pick(&TRADES, n / 2).unwrap_or_default();
    let name = if person {
        [pick(&FAMILIES, n / 3), pick(&GIVEN, n / 2)].into_iter().flatten().collect()
    } else {
        [Some(city), pick(&WORDS, n / 3 + n), Some(trade)].into_iter().flatten().collect()
    };
    let phone = if person {
        format!("138{:08}", 10_000_000 + n * 137)
    } else {
        format!("{area}-8765{:04}", 4_000 + n)
    };
    Made {
        person,
        name,
        phone,
        email: format!("kehu{n:02}@example.cn"),
        city,
        street: format!("人民路{}号", 8 + n * 3),
        industry,
    }
}

fn english(n: usize) -> Made {
    const CITIES: [&str; 6] = ["Bristol", "Leeds", "Norwich", "Glasgow", "Cardiff", "York"];
    const WORDS: [&str; 10] = [
        "Alder",
        "Brightwater",
        "Copperfield",
        "Dunmore",
        "Elmstead",
        "Foxglove",
        "Greycoat",
        "Harbourside",
        "Ivybridge",
        "Juniper",
    ];
    const TRADES: [(&str, &str); 6] = [
        ("Hotels Ltd", "hospitality"),
        ("Logistics plc", "logistics"),
        ("Foods Ltd", "food"),
        ("Joinery Ltd", "construction"),
        ("Clinics Ltd", "health"),
        ("Media Ltd", "media"),
    ];
    const GIVEN: [&str; 12] = [
        "Amelia", "Oliver", "Zainab", "George", "Niamh", "Rajesh", "Sophie", "Callum", "Ingrid", "Kwame",
        "Beatrice", "Hugo",
    ];
    const FAMILIES: [&str; 10] = [
        "Ashworth",
        "Bennett",
        "Choudhury",
        "Devlin",
        "Edwards",
        "Fraser",
        "Grant",
        "Holloway",
        "Iqbal",
        "Jennings",
    ];
    let city = pick(&CITIES, n).unwrap_or_default();
    let person = n % 3 == 2;
    let (trade, industry) = pick(&TRADES, n / 2).unwrap_or_default();
    let parts = if person {
        [pick(&GIVEN, n / 2), pick(&FAMILIES, n / 3)]
    } else {
        [pick(&WORDS, n / 3 + n), Some(trade)]
    };
    Made {
        person,
        name: parts.into_iter().flatten().collect::<Vec<_>>().join(" "),
        phone: format!("0117 496 {:04}", n * 16 % 1_000),
        email: format!("customer{n:02}@example.co.uk"),
        city,
        street: format!("{} High Street", 3 + n * 2),
        industry,
    }
}
